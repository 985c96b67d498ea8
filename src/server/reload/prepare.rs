//! The part of a reload that can fail: reads, checks and builds, and changes nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::files::SealingKeys;
use super::outcome::Refused;
use crate::config::{Change, Reloading, Reread, Running};
use crate::control::access::NewKeys;
use crate::control::access::keyfile::KeyFile;
use crate::control::archive::ArchiveChange;
use crate::control::review::ReviewChange;
use crate::logging;
use crate::net::backend::Kind;
use crate::server::tls::{self, Listeners};
use crate::server::{StartError, preflight};

/// What a reload begins from.
pub(super) struct Present {
    pub(super) running: Running,
    pub(super) data_dir: PathBuf,
    pub(super) shards: usize,
    pub(super) io: Kind,
    pub(super) tls: Listeners,
    /// On a node of a cluster: how long its streams remember a token's use.
    pub(super) token_life_max: Option<Duration>,
}

/// Everything that a reload takes over.
pub(super) struct Prepared {
    pub(super) reread: Reread,
    pub(super) keys: NewKeys,
    pub(super) filter: EnvFilter,
    pub(super) sealing_keys: SealingKeys,
    pub(super) tls: PreparedTls,
    /// `None`: unchanged, so that connections to handlers are kept.
    pub(super) review: Option<ReviewChange>,
    /// `None`: unchanged.
    pub(super) archive: Option<ArchiveChange>,
}

/// The TLS of the listeners.
pub(super) enum PreparedTls {
    /// The keys of `[tls]` are unchanged: the content of its files, in their order; `None` of a self-signed certificate,
    /// and of one that is not issued yet.
    Same(Vec<Option<tls::Read>>),
    /// Other files, or other listeners.
    New(Listeners),
}

/// Prepares a reload. Blocks for tens of milliseconds.
///
/// # Errors
///
/// Why the running server cannot take the configuration or one of its files over.
pub(super) fn prepare(present: &Present) -> Result<Prepared, Refused> {
    let mut reread = present.running.read()?;
    let is_live = |change: &Change| change.reloading() == Reloading::Live;
    let refused = reread.changes.iter().filter(|change| !is_live(change));
    let refused: Vec<_> = refused.cloned().collect();
    if !refused.is_empty() {
        return Err(Refused::NotLive(refused));
    }
    if let Some(max) = present
        .token_life_max
        .filter(|max| reread.settings.token_life > *max)
    {
        let given = reread.settings.token_life;
        return Err(Refused::TokenLife { given, max });
    }
    preflight::fit(&mut reread.settings, present.io, present.shards)?;
    let (settings, changes) = (&reread.settings, &reread.changes);
    let in_section = |section: &str| changes.iter().any(|change| change.key.starts_with(section));
    let review = in_section("review.").then(|| {
        let timeout = settings.shard.review_timeout;
        ReviewChange::new(settings.review.clone(), timeout).map_err(StartError::Certificates)
    });
    let archive = in_section("logging.").then(|| {
        let fault = |cause: io::Error| StartError::Archive { cause };
        ArchiveChange::new(settings.archive.clone()).map_err(fault)
    });
    Ok(Prepared {
        keys: NewKeys::read(settings.keys.clone(), &KeyFile::of(&present.data_dir))?,
        filter: EnvFilter::new(logging::whole(&settings.log_filter)),
        sealing_keys: SealingKeys::read(&present.data_dir)?,
        review: review.transpose()?,
        archive: archive.transpose()?,
        // Last, since `uproar dev` writes the certificate that it makes.
        tls: match &present.tls.certificates {
            _ if in_section("tls.") => {
                let (tickets, challenges) = (&present.tls.tickets, &present.tls.challenges);
                let listeners = tls::configure(settings, tickets.clone(), challenges.clone())?;
                PreparedTls::New(listeners)
            }
            Some(certificates) => {
                let places = 0..certificates.count();
                let read: Result<_, _> =
                    places.map(|place| certificates.read_again(place)).collect();
                PreparedTls::Same(read?)
            }
            None => PreparedTls::Same(Vec::new()),
        },
        reread,
    })
}
