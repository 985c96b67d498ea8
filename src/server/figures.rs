//! What `/metrics` shows.

use std::rc::Rc;
use std::sync::Arc;

use super::acme::Wanted;
use super::drain::Progress;
use super::listeners::Listeners;
use super::load::Loads;
use super::process_metrics::ProcessMetrics;
use super::tls::LiveTls;
use super::{reload, upgrade};
use crate::cluster::Cluster;
use crate::control::Metrics;
use crate::control::review::ReviewMetrics;
use crate::logging;
use crate::shard::metrics;
use crate::supervisor::Supervisor;

/// Everything that `/metrics` shows beside the control thread's own counters.
pub(super) struct Figures {
    pub(super) acme: Option<Wanted>,
    pub(super) cluster: Option<Cluster>,
    pub(super) shards: Vec<Arc<metrics::ShardMetrics>>,
    pub(super) reloads: Arc<reload::Reloads>,
    pub(super) tls: LiveTls,
    pub(super) reviews: Rc<ReviewMetrics>,
    pub(super) drain: Rc<Progress>,
    pub(super) supervisor: Supervisor,
    pub(super) process: ProcessMetrics,
    pub(super) listeners: Rc<Listeners>,
    pub(super) take_overs: Rc<upgrade::Figures>,
    pub(super) loads: Rc<Loads>,
}

impl Figures {
    /// Writes them when they are asked for.
    pub(super) fn rendered(self) -> Metrics {
        Box::new(move |out| {
            metrics::render(&self.shards, out);
            self.loads.render(out);
            self.reloads.render(out);
            if let Some(certificates) = &self.tls.borrow().certificates {
                certificates.render(out);
            }
            if let Some(acme) = &self.acme {
                acme.figures.render(out);
            }
            self.reviews.render(out);
            self.drain.render(out);
            self.supervisor.render(out);
            logging::render(out);
            self.process.render(out);
            self.listeners.render(out);
            self.take_overs.render(out);
            if let Some(cluster) = &self.cluster {
                cluster.render(out);
            }
        })
    }
}
