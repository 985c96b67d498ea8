//! Two nodes of one name: an operator's mistake, and the one that came later pays for it.

use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::CLUSTER_SILENT;

/// Whether this node may keep its name. Whoever has heard itself and nobody of the same name for as long as a silent
/// node counts as alive was here first, and stays: a copied configuration must not take a good node away.
#[derive(Debug, Default)]
pub(super) struct Namesake {
    // The process id of the other one, as was said.
    seen: Option<u32>,
    alone_since: Option<Tick>,
    was_first: bool,
}

impl Namesake {
    /// Of a node that `inherits`, if so: the process before it was settled, and so is this one.
    pub(super) fn new(inherits: bool) -> Self {
        Self {
            was_first: inherits,
            ..Self::default()
        }
    }

    /// The process for which this node steps aside, if it must. `other`: a living node of the same name; `is_heard`:
    /// whether this node hears its own signs of life, so that it would hear another's.
    pub(super) fn judge(&mut self, other: Option<u32>, is_heard: bool, now: Tick) -> Option<u32> {
        if other.is_none() && is_heard {
            let since = *self.alone_since.get_or_insert(now);
            self.was_first |= now.since(since) >= CLUSTER_SILENT;
        } else {
            self.alone_since = None;
        }
        if other != self.seen {
            self.seen = other;
            self.say();
        }
        other.filter(|_| !self.was_first)
    }

    fn say(&self) {
        let was_first = self.was_first;
        if let Some(process) = self.seen {
            tracing::error!(
                process,
                was_first,
                "cluster: another node has this one's name; the one that came later is not ready and homes nothing: \
                 give each its own cluster.node"
            );
        } else {
            tracing::info!("cluster: no other node has this one's name any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Option<u32> = Some(7);

    /// Goal: a node that is settled stays when another of its name comes, also while it does not hear itself; the other,
    /// which hears the first from its beginning, steps aside until that one is gone. Method: both sides of it.
    #[test]
    fn whoever_came_later_steps_aside() {
        let at = |times: u32| Tick::default().after(CLUSTER_SILENT * times);
        let (mut first, mut later) = (Namesake::default(), Namesake::default());
        assert_eq!(first.judge(None, true, at(0)), None);
        assert_eq!(first.judge(None, true, at(1)), None);
        assert_eq!(first.judge(OTHER, true, at(2)), None);
        assert_eq!(first.judge(OTHER, false, at(3)), None);
        assert_eq!(later.judge(None, false, at(0)), None);
        assert_eq!(later.judge(None, false, at(2)), None);
        assert_eq!(later.judge(OTHER, true, at(3)), OTHER);
        assert_eq!(later.judge(None, true, at(4)), None);
        assert_eq!(later.judge(OTHER, true, at(4)), OTHER);
    }
}
