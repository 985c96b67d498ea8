//! What one socket is ready for, from the kernel's edges and from what calls returned.

use rustix::event::epoll::EventFlags;

/// What each socket is watched for, once for its life.
pub(super) const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::PRI)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The peer's end, an error, or urgent data: a read that returns less than it could take does not mean that the socket
/// is empty.
const BEYOND_DATA: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR)
    .union(EventFlags::PRI);
const BROKEN: EventFlags = EventFlags::HUP.union(EventFlags::ERR);

/// A socket is ready for what it may do until a call has shown that it is not; the next edge makes it ready again.
#[derive(Debug)]
pub(super) struct Readiness {
    may_read: bool,
    may_write: bool,
    // Whether reads go on until the kernel says that nothing is there.
    reads_to_end: bool,
}

impl Default for Readiness {
    /// A new socket has room; whether bytes are there the kernel tells after its registration.
    fn default() -> Self {
        Self {
            may_read: false,
            may_write: true,
            reads_to_end: false,
        }
    }
}

impl Readiness {
    pub(super) fn may_read(&self) -> bool {
        self.may_read
    }

    pub(super) fn may_write(&self) -> bool {
        self.may_write
    }

    /// Notes an edge.
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.may_read |= flags.intersects(EventFlags::IN.union(BEYOND_DATA));
        self.may_write |= flags.intersects(EventFlags::OUT.union(BROKEN));
        self.reads_to_end |= flags.intersects(BEYOND_DATA);
    }

    /// A read returned less than it could take: mostly that saves the one that would return nothing (epoll(7)).
    pub(super) fn read_short(&mut self) {
        self.may_read = self.reads_to_end;
    }

    /// Nothing was there to read.
    pub(super) fn emptied(&mut self) {
        self.may_read = false;
    }

    /// A send took less than it was given.
    pub(super) fn filled(&mut self) {
        self.may_write = false;
    }

    /// The connection is shut down: nothing may wait for it any more.
    pub(super) fn broke(&mut self) {
        (self.may_read, self.may_write, self.reads_to_end) = (true, true, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a short read saves the next one, unless the peer's end, an error or urgent data was told.
    #[test]
    fn reads_go_on_where_an_end_is_near() {
        let mut readiness = Readiness::default();
        readiness.note(EventFlags::IN);
        readiness.read_short();
        assert!(!readiness.may_read());
        for flag in [
            EventFlags::RDHUP,
            EventFlags::HUP,
            EventFlags::ERR,
            EventFlags::PRI,
        ] {
            let mut readiness = Readiness::default();
            readiness.note(flag);
            readiness.read_short();
            assert!(readiness.may_read(), "{flag:?}");
            readiness.emptied();
            assert!(!readiness.may_read(), "{flag:?}");
        }
    }

    /// Goal: a full socket is written to after an edge, and after a shutdown, which ends every wait.
    #[test]
    fn a_full_socket_waits_for_its_edge() {
        for flag in [EventFlags::OUT, EventFlags::HUP, EventFlags::ERR] {
            let mut readiness = Readiness::default();
            readiness.filled();
            readiness.note(EventFlags::IN | EventFlags::RDHUP);
            assert!(!readiness.may_write());
            readiness.note(flag);
            assert!(readiness.may_write(), "{flag:?}");
        }
        let mut readiness = Readiness::default();
        readiness.filled();
        readiness.broke();
        assert!(readiness.may_write() && readiness.may_read());
    }
}
