//! Entries into the kernel that failed: which are borne, and for how long.

use std::io;
use std::time::Instant;

use uproar_proto::base::limits::RING_REFUSED_MAX;

/// Failed entries in a row.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    // When the first of them failed.
    since: Option<Instant>,
}

impl Refusals {
    /// An entry succeeded.
    pub(super) fn over(&mut self) {
        self.since = None;
    }

    /// Judges an entry that failed `now`. No submission is lost by it: those that the kernel did not take stay
    /// queued. A kernel that takes none for [`RING_REFUSED_MAX`] makes the ring useless: its connections are served
    /// no more, and only the end of the process says so.
    pub(super) fn judge(&mut self, error: io::Error, now: Instant) -> io::Result<()> {
        match error.raw_os_error() {
            // A signal says nothing about the ring.
            Some(libc::EINTR) => Ok(()),
            // No memory for requests now; or completions must be reaped first.
            Some(libc::EAGAIN | libc::ENOMEM | libc::EBUSY) => {
                let since = *self.since.get_or_insert(now);
                if now.duration_since(since) < RING_REFUSED_MAX {
                    return Ok(());
                }
                let seconds = RING_REFUSED_MAX.as_secs();
                Err(io::Error::other(format!(
                    "the kernel took no submission for {seconds} s: {error}"
                )))
            }
            // The kernel reports this once and continues without the lost completions. Their connections are
            // unknown and would wait for ever, and their buffers would stay lent for ever.
            Some(libc::EBADR) => Err(io::Error::other(
                "the kernel had no memory to keep completions aside and lost some (EBADR): the pending \
                 operations are unknown",
            )),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: lack of memory is borne for a while, not for ever; each success begins the while anew.
    #[test]
    fn a_ring_that_is_refused_for_long_ends() {
        let start = Instant::now();
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::EBUSY] {
            let mut refusals = Refusals::default();
            let mut refused = |seconds| {
                let now = start + Duration::from_secs(seconds);
                refusals.judge(io::Error::from_raw_os_error(errno), now)
            };
            assert!(refused(0).is_ok() && refused(9).is_ok());
            let ended = refused(10).expect_err("ten seconds");
            assert!(ended.to_string().contains("for 10 s"), "{ended}");
            refusals.over();
            let again = io::Error::from_raw_os_error(errno);
            assert!(
                refusals
                    .judge(again, start + Duration::from_secs(30))
                    .is_ok()
            );
        }
        let mut refusals = Refusals::default();
        for seconds in [0, 60] {
            let interrupted = io::Error::from_raw_os_error(libc::EINTR);
            assert!(
                refusals
                    .judge(interrupted, start + Duration::from_secs(seconds))
                    .is_ok()
            );
        }
    }

    /// Goal: an entry that failed for lack of memory or space is retried; lost completions end the ring by name.
    #[test]
    fn only_a_useless_ring_ends() {
        let judge = |errno| {
            let error = io::Error::from_raw_os_error(errno);
            Refusals::default().judge(error, Instant::now())
        };
        for errno in [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::EBUSY] {
            assert!(judge(errno).is_ok());
        }
        let lost = judge(libc::EBADR).expect_err("lost");
        assert!(lost.to_string().contains("EBADR"), "{lost}");
        let bad = judge(9).expect_err("no ring");
        assert_eq!(bad.raw_os_error(), Some(9));
    }
}
