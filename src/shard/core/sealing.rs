//! How much a turn seals.
//!
//! A turn's records are sealed, then the kernel copies them. If they are more than a core's second cache holds, both wait
//! for memory, and so does who seals next, in buffers that have left it. So a turn ends early, and the next one seals in
//! the buffers that were just sent from.

use uproar_proto::base::limits::SEALED_BYTES_PER_TURN_MAX;

/// Bytes that a turn still seals.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sealing {
    left: usize,
}

impl Default for Sealing {
    /// That of a turn that begins.
    fn default() -> Self {
        Self {
            left: SEALED_BYTES_PER_TURN_MAX,
        }
    }
}

impl Sealing {
    /// Notes a send. The last one may be longer than what was left.
    pub(super) fn sealed(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether nothing more is sealed.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Keeps half for the walks over rooms, whatever continuations took: slow readers, each with much to seal, would
    /// otherwise leave nothing to the others, turn after turn.
    pub(super) fn keep_for_walks(&mut self) {
        self.left = self.left.max(SEALED_BYTES_PER_TURN_MAX / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a turn seals what it may and one send more; continuations that take all of it leave half to the walks, and
    /// those that take less leave the rest.
    #[test]
    fn a_turn_seals_a_bounded_amount_and_walks_have_half() {
        let mut sealing = Sealing::default();
        sealing.sealed(SEALED_BYTES_PER_TURN_MAX - 1);
        assert!(!sealing.is_over());
        sealing.sealed(1000);
        assert!(sealing.is_over());
        sealing.keep_for_walks();
        sealing.sealed(SEALED_BYTES_PER_TURN_MAX / 2 - 1);
        assert!(!sealing.is_over());
        sealing.sealed(1);
        assert!(sealing.is_over());
        let mut fresh = Sealing::default();
        fresh.keep_for_walks();
        assert_eq!(fresh, Sealing::default());
    }
}
