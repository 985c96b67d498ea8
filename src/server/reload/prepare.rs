//! The part of a reload that can fail: reads, checks and builds, and changes nothing.

use std::path::Path;

use rustls::sign::CertifiedKey;
use tracing_subscriber::EnvFilter;

use super::files::SealingKeys;
use super::outcome::Refused;
use crate::config::{Change, Reloading, Reread, Running};
use crate::control::access::NewKeys;
use crate::control::access::keyfile::KeyFile;
use crate::durable::Watched;
use crate::server::tls::LiveCertificate;

/// Everything that a reload takes over.
pub(super) struct Prepared {
    pub(super) reread: Reread,
    pub(super) keys: NewKeys,
    pub(super) filter: EnvFilter,
    pub(super) sealing_keys: SealingKeys,
    pub(super) certified: Option<(CertifiedKey, Watched<2>)>,
}

/// Prepares a reload. Blocks for tens of milliseconds.
///
/// # Errors
///
/// Why the running server cannot take the configuration or one of its files over.
pub(super) fn prepare(
    running: &Running,
    data_dir: &Path,
    certificate: Option<&LiveCertificate>,
) -> Result<Prepared, Refused> {
    let reread = running.read()?;
    let is_live = |change: &Change| change.reloading() == Reloading::Live;
    let refused = reread.changes.iter().filter(|change| !is_live(change));
    let refused: Vec<_> = refused.cloned().collect();
    if !refused.is_empty() {
        return Err(Refused::NotLive(refused));
    }
    let settings = &reread.settings;
    Ok(Prepared {
        keys: NewKeys::read(settings.keys.clone(), &KeyFile::of(data_dir))?,
        filter: EnvFilter::new(&settings.log_filter),
        sealing_keys: SealingKeys::read(data_dir)?,
        certified: match certificate {
            Some(certificate) => certificate.read()?,
            None => None,
        },
        reread,
    })
}
