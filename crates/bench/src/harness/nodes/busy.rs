//! Processor time of all processes.

use std::time::Duration;

/// Processor time since the start of the processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Busy {
    /// Of each node.
    pub(crate) nodes: Vec<Duration>,
    /// Of all brokers together.
    pub(crate) brokers: Duration,
    /// Of the measuring process.
    pub(crate) own: Duration,
}

impl Busy {
    /// What was used since `before`; of a process that was started since then, all.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let nodes = self.nodes.iter().zip(&before.nodes);
        Self {
            nodes: nodes
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
            brokers: self.brokers.saturating_sub(before.brokers),
            own: self.own.saturating_sub(before.own),
        }
    }

    /// Divided by a count or by seconds.
    pub(crate) fn per(&self, divisor: f64) -> Self {
        let part = |time: &Duration| time.div_f64(divisor.max(f64::MIN_POSITIVE));
        Self {
            nodes: self.nodes.iter().map(part).collect(),
            brokers: part(&self.brokers),
            own: part(&self.own),
        }
    }

    /// Of all nodes.
    pub(crate) fn all_nodes(&self) -> Duration {
        self.nodes.iter().sum()
    }
}
