//! What the cluster's registry changes on this node: its shards, its archive and its files of keys.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::access::keyfile::KeyFile;
use super::registry::{KeyChange, NodeEffects, RecordChanges};
use super::state::Control;
use crate::durable::{self, Access, Survives};
use crate::logging::{Kind, local};
use crate::supervisor::blocking;
use uproar_proto::token::Keyring;

/// Pause before files of keys are written again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Where this node keeps its keys.
#[derive(Debug, Clone)]
pub struct KeyPlaces {
    /// Of the access keys.
    pub data_dir: PathBuf,
    /// Of the sealing keys.
    pub ring: PathBuf,
}

impl Control {
    /// Follows the cluster's registry as long as the server runs.
    pub async fn follow(self: Rc<Self>, places: KeyPlaces) -> Infallible {
        let copies = Copies {
            control: Rc::clone(&self),
            places,
        };
        self.registry.follow(&copies).await
    }
}

struct Copies {
    control: Rc<Control>,
    places: KeyPlaces,
}

impl NodeEffects for Copies {
    async fn keys(&self, changes: Vec<KeyChange>) {
        let is_ring = |change: &KeyChange| match change {
            KeyChange::Ring(text) => read_ring(text),
            KeyChange::AccessKey(..) | KeyChange::OnlyAccessKeys(_) => None,
        };
        let ring = changes.iter().rev().find_map(is_ring);
        let changes = Arc::new(changes);
        loop {
            let (changes, places) = (Arc::clone(&changes), self.places.clone());
            match blocking(move || places.store(&changes)).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, "the cluster's keys do not reach the data directory");
                }
            }
            sleep(RETRY).await;
        }
        if let Some(ring) = ring {
            self.control.keyring.store(Arc::new(ring));
            tracing::info!("the cluster's sealing keys are in use");
        }
        self.control.settings.keys.refresh();
    }

    async fn records(&self, changes: RecordChanges) {
        for (id, destination) in changes.logging {
            match destination {
                Some(destination) => self.control.settings.archive.put(id, destination),
                None => self.control.settings.archive.remove(id),
            }
        }
        let mut asked = JoinSet::new();
        for (id, settings) in changes.rooms {
            let gateway = self.control.gateway.clone();
            asked.spawn_local(async move {
                let told = match settings {
                    Some(settings) => gateway.put_room(id, settings).await,
                    // A shard that does not know it has nothing to close.
                    None => gateway.delete_room(id).await.or(Ok(())),
                };
                if let Err(refused) = told
                    && let Some(suppressed) = local::admit(Kind::ApiFailed)
                {
                    tracing::error!(room = %id, %refused, suppressed, "a room of the cluster did not reach its shard");
                }
            });
        }
        asked.join_all().await;
        for (id, ban) in changes.bans {
            self.control.follow_ban(id, ban.as_ref()).await;
        }
        for (id, set) in changes.rule_sets {
            self.control.follow_rule_set(id, set).await;
        }
    }
}

impl KeyPlaces {
    fn store(&self, changes: &[KeyChange]) -> io::Result<()> {
        let file = KeyFile::of(&self.data_dir);
        for change in changes {
            match change {
                KeyChange::AccessKey(id, Some(key)) => {
                    file.put(id, key).map_err(io::Error::other)?;
                }
                KeyChange::AccessKey(id, None) => {
                    file.revoke(id).map_err(io::Error::other)?;
                }
                KeyChange::OnlyAccessKeys(ids) => only(&file, ids).map_err(io::Error::other)?,
                KeyChange::Ring(text) => {
                    let access = Access::PRIVATE_TO_DIRECTORY;
                    durable::replace(&self.ring, text, access, Survives::PowerLoss)?;
                }
            }
        }
        Ok(())
    }
}

fn only(file: &KeyFile, ids: &HashSet<String>) -> Result<(), super::access::KeyFileError> {
    for key in file.list()? {
        if !ids.contains(&key.id) {
            file.revoke(&key.id)?;
        }
    }
    Ok(())
}

/// What is no ring is logged, and not used.
fn read_ring(text: &[u8]) -> Option<Keyring> {
    let text = str::from_utf8(text).ok()?;
    Keyring::parse(text)
        .inspect_err(|error| tracing::error!(%error, "the cluster's sealing keys cannot be read"))
        .ok()
}
