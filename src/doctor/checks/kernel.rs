//! The kernel: its release, io_uring, huge pages.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Verdict, finding};
use crate::doctor::show::shown;

pub(super) const KERNEL: &str = "kernel";
pub(super) const URING: &str = "io_uring allowed";
pub(super) const RING: &str = "io_uring ring";
const IO: &str = "server.io";
/// First kernel with everything the rings use.
const KERNEL_MIN: (u64, u64) = (6, 1);

/// Major and minor of a release such as `6.1.0-18-amd64`.
pub(super) fn version(facts: &Facts) -> Option<(u64, u64)> {
    let mut parts = facts
        .release
        .as_deref()?
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn kernel(facts: &Facts) -> Finding {
    let version = version(facts);
    let verdict = match version {
        None => Verdict::Unknown,
        Some(version) if version >= KERNEL_MIN => Verdict::Ok,
        Some(_) => Verdict::Change,
    };
    let found = facts.release.as_deref().unwrap_or("?");
    let reason = "the rings use buffer rings, multishot receives and deferred task work";
    finding(KERNEL, found, "6.1 or later", verdict, reason)
        .allows((verdict == Verdict::Change).then_some(0))
}

pub(super) fn uring(facts: &Facts) -> Finding {
    let group = facts.uring_group.unwrap_or(-1);
    let (verdict, reason) = match (facts.uring_disabled, facts.release.is_some()) {
        (Some(0), _) => (Verdict::Ok, "every user may use it".to_owned()),
        (Some(1), _) if group >= 0 => (
            Verdict::Unknown,
            format!("the server's user must be in group {group} (kernel.io_uring_group)"),
        ),
        (Some(1), _) => (
            Verdict::Change,
            "only root may use it, and the server is not root".to_owned(),
        ),
        (Some(_), _) => (
            Verdict::Change,
            "it is switched off for every user".to_owned(),
        ),
        (None, true) => (
            Verdict::Ok,
            "this kernel has no switch to forbid it".to_owned(),
        ),
        (None, false) => (
            Verdict::Unknown,
            "see `sysctl kernel.io_uring_disabled`".to_owned(),
        ),
    };
    finding(URING, shown(facts.uring_disabled), "0", verdict, reason)
        .allows((verdict == Verdict::Change).then_some(0))
        .sysctl("kernel.io_uring_disabled", 0)
}

pub(super) fn ring(facts: &Facts) -> Finding {
    let (verdict, found, reason) = match &facts.ring {
        None => (
            Verdict::Unknown,
            "not tried",
            "no ring was set up".to_owned(),
        ),
        Some(Err(why)) => (Verdict::Change, "refused", why.clone()),
        Some(Ok(missing)) if missing.is_empty() => (
            Verdict::Ok,
            "works",
            "this user can set up and enter a ring, and it has all operations".to_owned(),
        ),
        Some(Ok(missing)) => (
            Verdict::Change,
            "incomplete",
            format!("the kernel lacks {}", missing.join(", ")),
        ),
    };
    finding(RING, found, "works", verdict, reason).allows((verdict == Verdict::Change).then_some(0))
}

/// What moves viewers' bytes where that is epoll: because it was asked for, or because rings are refused.
pub(super) fn epoll(facts: &Facts) -> Finding {
    let found = match &facts.ring {
        Some(Err(why)) => format!("epoll: io_uring cannot be used: {why}"),
        Some(Ok(missing)) if !missing.is_empty() => {
            format!("epoll: this kernel's io_uring lacks {}", missing.join(", "))
        }
        Some(Ok(_)) | None => "epoll".to_owned(),
    };
    let reason =
        "io_uring needs less of a processor for each message, and no descriptor for a viewer";
    finding(IO, found, "io_uring, or epoll", Verdict::Ok, reason)
}

pub(super) fn huge_pages(facts: &Facts) -> Finding {
    let (verdict, found) = match &facts.huge_pages {
        Some(mode) => (Verdict::Ok, mode.as_str()),
        None => (Verdict::Ok, "none"),
    };
    let reason = "the server disables transparent huge pages for itself";
    finding("transparent huge pages", found, "any", verdict, reason)
}
