//! Who lives, for commands beside the server: the nodes' signs of life, listened to for a while.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::connect;
use super::fault::ClusterFault;
use super::names::Names;
use super::settings::ClusterSettings;
use crate::logging::with_causes;
use uproar_proto::base::limits::CLUSTER_SILENT;
use uproar_proto::cluster::here::Here;
use uproar_proto::token::KeyId;

/// Listens until every node that lives opens tokens with this key; returns the names of those that do not `within` this
/// time. Takes 3 s at least: a node may be heard that late.
///
/// # Errors
///
/// The brokers do not answer.
pub async fn await_key(
    settings: &ClusterSettings,
    key: KeyId,
    within: Duration,
) -> Result<Vec<String>, ClusterFault> {
    let client = connect::connect_once(settings).await?;
    let here = client.subscribe(Names::new(&settings.name).here()).await;
    let mut here = here.map_err(|error| ClusterFault::Refused {
        what: "to listen to the nodes".to_owned(),
        cause: with_causes(&error),
    })?;
    let begun = Instant::now();
    let mut heard: HashMap<_, (Instant, String, bool)> = HashMap::new();
    let mut next = begun + CLUSTER_SILENT;
    loop {
        while let Ok(Some(message)) = timeout_at(next, here.next()).await {
            if let Ok(sign) = Here::decode(&message.payload) {
                let has_key = sign.facts.key_ids.contains(&key);
                let name = sign.about.name.to_string();
                heard.insert(sign.incarnation, (Instant::now(), name, has_key));
            }
        }
        let lives = |at: &Instant| at.elapsed() < CLUSTER_SILENT;
        let lacking = heard
            .values()
            .filter(|(at, _, has_key)| lives(at) && !has_key);
        let lacking: Vec<String> = lacking.map(|(_, name, _)| name.clone()).collect();
        if lacking.is_empty() || begun.elapsed() > within {
            return Ok(lacking);
        }
        next = Instant::now() + Duration::from_millis(250);
    }
}
