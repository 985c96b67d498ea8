//! The streams and the bucket of a cluster: made once, by `uproar cluster init`, and looked at by each node that starts.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::time::Instant;

use super::connect;
use super::fault::ClusterFault;
use super::names::{Names, PARTS, Part};
use super::settings::ClusterSettings;
use crate::logging::with_causes;
use uproar_proto::base::limits::{
    BUCKET_HISTORY, CLUSTER_CALL_MAX, CLUSTER_HERE, CLUSTER_LOG_AGE, CLUSTER_LOG_BYTES_MAX,
    CLUSTER_PEERS_MAX, CLUSTER_TOKEN_AGE_SPARE, CLUSTER_TOKEN_BYTES_MAX,
};

/// Makes what is missing of the cluster's streams and bucket, on brokers that are all asked first. What is there already
/// stays, if it is as it should be: so it can be called again.
///
/// # Errors
///
/// A broker does not answer or is unfit, or a stream cannot be made or is set up differently.
pub async fn setup(settings: &ClusterSettings) -> Result<(), ClusterFault> {
    for server in &settings.servers {
        let one = ClusterSettings {
            servers: vec![server.clone()],
            ..settings.clone()
        };
        connect::connect_once(&one).await?;
    }
    let brokers = context(connect::connect_once(settings).await?);
    for config in wanted(settings) {
        let stream = config.name.clone();
        // A repeated call finds what the one before it made.
        let make = async || brokers.get_or_create_stream(config.clone()).await;
        let made = patiently(make, |error| passes(&error.kind())).await;
        made.map_err(|error| ClusterFault::Refused {
            what: format!("to make stream {stream}"),
            cause: with_causes(&error),
        })?;
    }
    let look = async || check(&brokers, settings).await;
    patiently(look, |fault| matches!(fault, ClusterFault::Silent { .. })).await
}

/// Does what brokers that were started a moment ago refuse until they see each other and have elected: again for
/// `CLUSTER_PEERS_MAX`, as long as the refusal `passes`.
async fn patiently<T, E>(
    attempt: impl AsyncFn() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + CLUSTER_PEERS_MAX;
    loop {
        match attempt().await {
            Err(error) if passes(&error) && Instant::now() < deadline => {
                tokio::time::sleep(CLUSTER_HERE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether brokers that elect a leader refuse so, and will take the same call a moment later.
fn passes(refusal: &CreateStreamErrorKind) -> bool {
    match refusal {
        CreateStreamErrorKind::TimedOut => true,
        CreateStreamErrorKind::JetStream(refusal) => [
            ErrorCode::CLUSTER_NO_PEERS,
            ErrorCode::CLUSTER_NOT_AVAILABLE,
            ErrorCode::CLUSTER_NOT_LEADER,
        ]
        .contains(&refusal.error_code()),
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::JetStreamUnavailable
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::ResponseParse => false,
    }
}

/// Looks at the cluster's streams and bucket.
///
/// # Errors
///
/// One is not there, or is set up so that the cluster's promises would break.
pub(super) async fn check(
    brokers: &Context,
    settings: &ClusterSettings,
) -> Result<(), ClusterFault> {
    for wanted in wanted(settings) {
        let stream = wanted.name.clone();
        let info = match brokers.get_stream(&stream).await {
            Ok(found) => found.cached_info().clone(),
            Err(error) => {
                let GetStreamErrorKind::JetStream(refusal) = error.kind() else {
                    return Err(ClusterFault::Silent {
                        servers: settings.servers.join(", "),
                        cause: format!("{stream}: {}", with_causes(&error)),
                    });
                };
                if refusal.code() == 404 {
                    return Err(ClusterFault::NoStream { stream });
                }
                return Err(ClusterFault::Silent {
                    servers: settings.servers.join(", "),
                    cause: format!("{stream}: {refusal}"),
                });
            }
        };
        if let Some(what) = difference(&wanted, &info, settings) {
            return Err(ClusterFault::Stream { stream, what });
        }
    }
    Ok(())
}

/// JetStream's calls by `client`.
pub(super) fn context(client: async_nats::Client) -> Context {
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(CLUSTER_CALL_MAX);
    context
}

/// How `found` breaks what the cluster rests on; sizes and replicas may be an operator's own.
fn difference(wanted: &Config, found: &Info, settings: &ClusterSettings) -> Option<String> {
    let config = &found.config;
    let replicas = config.num_replicas;
    if replicas < settings.replicas {
        let wanted = settings.replicas;
        return Some(format!(
            "it has {replicas} replicas, and cluster.replicas is {wanted}: change either, with `nats stream edit` the first"
        ));
    }
    if config.subjects != wanted.subjects || config.republish != wanted.republish {
        return Some(
            "its subjects are not those of this cluster: another program made it".to_owned(),
        );
    }
    if config.retention != RetentionPolicy::Limits || !config.allow_direct {
        return Some("it must have retention by limits and allow direct gets".to_owned());
    }
    let is_bounded = config.max_bytes > 0 || config.max_messages > 0;
    if wanted.discard == DiscardPolicy::New && is_bounded && config.discard != wanted.discard {
        return Some(
            "it has a bound and forgets the oldest: set its discard policy to new, with `nats stream edit`".to_owned(),
        );
    }
    if wanted.allow_atomic_publish && !config.allow_atomic_publish {
        return Some(
            "it must take atomic batches: set its allow_atomic with `nats stream edit`".to_owned(),
        );
    }
    if !config.max_age.is_zero() && (wanted.max_age.is_zero() || config.max_age < wanted.max_age) {
        let (age, needed) = (config.max_age.as_secs(), wanted.max_age.as_secs());
        return Some(format!(
            "it forgets after {age} s, and {needed} are needed (tokens.life_minutes and five minutes, for token uses): \
             `nats stream edit` changes its maximum age"
        ));
    }
    None
}

/// Every stream of the cluster, as it is made.
fn wanted(settings: &ClusterSettings) -> Vec<Config> {
    let names = Names::new(&settings.name);
    let common = Config {
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        num_replicas: settings.replicas,
        allow_direct: true,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        // The condition of an append is what keeps repetitions out; the least that brokers take.
        duplicate_window: Duration::from_secs(1),
        ..Config::default()
    };
    let mut all = Vec::new();
    for part in 0..PARTS {
        let log = Part::Log(part);
        all.push(Config {
            name: names.stream(log),
            subjects: vec![names.subjects(log)],
            max_age: CLUSTER_LOG_AGE,
            max_bytes: CLUSTER_LOG_BYTES_MAX,
            republish: Some(Republish {
                source: names.subjects(log),
                destination: names.republished(part),
                headers_only: false,
            }),
            ..common.clone()
        });
    }
    all.push(Config {
        name: names.stream(Part::Tokens),
        subjects: vec![names.subjects(Part::Tokens)],
        max_age: settings.token_life + CLUSTER_TOKEN_AGE_SPARE,
        max_bytes: CLUSTER_TOKEN_BYTES_MAX,
        // A use must not be forgotten before its token expires: when there is no room, viewers wait outside.
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        // Uses that come together are one append.
        allow_atomic_publish: true,
        ..common.clone()
    });
    all.push(Config {
        name: names.bucket_stream(),
        subjects: vec![names.key(">")],
        max_messages_per_subject: BUCKET_HISTORY,
        allow_rollup: true,
        deny_delete: true,
        discard: DiscardPolicy::New,
        ..common
    });
    all
}
