//! Limits on open files, and on the memory that rings lock.

use super::kernel::version;
use crate::doctor::facts::{Facts, UNLIMITED};
use crate::doctor::finding::{Finding, Verdict, enough, finding};
use crate::doctor::need::Target;
use crate::doctor::show::{grouped, shown, size};
use crate::net::backend::Kind;

pub(super) const NOFILE: &str = "open files";
/// First kernel that counts rings to locked memory again, since they became regions there; from 5.12 on none did.
/// Measured on 6.18 only.
const KERNEL_CHARGES_RINGS: (u64, u64) = (6, 14);

pub(super) fn open_files(facts: &Facts, target: &Target) -> Finding {
    let needed = target.descriptors();
    let hard = facts.nofile.map(|limit| limit.hard);
    let beside = target.descriptors_beside();
    let share = if target.opens {
        "one for each connection"
    } else if target.io == Kind::Epoll {
        "epoll takes one for each viewer; up to a quarter is for handshakes and hand-overs"
    } else {
        "it bounds the table of connections of each ring; handshakes count, too"
    };
    let reason = format!(
        "{share}, and {beside} for everything else; this is this process's hard limit, and a unit has its own (--pid)"
    );
    finding(
        NOFILE,
        shown(hard),
        grouped(needed),
        enough(hard, needed),
        reason,
    )
    .allows(hard.map(|limit| target.connections_of_descriptors(limit)))
    .unit("LimitNOFILE", needed)
}

pub(super) fn soft_limit(facts: &Facts, target: &Target) -> Finding {
    let soft = facts.nofile.map(|limit| limit.soft);
    let verdict = if soft.is_some() {
        Verdict::Ok
    } else {
        Verdict::Unknown
    };
    let raised = target.descriptors();
    let needed = if target.opens {
        grouped(raised)
    } else {
        "any".to_owned()
    };
    let reason = "server and bench raise their soft limit to the hard one by themselves";
    finding("open files, soft", shown(soft), needed, verdict, reason)
}

pub(super) fn nr_open(facts: &Facts, target: &Target) -> Finding {
    let needed = target.descriptors();
    let found = facts.nr_open;
    let reason = "the kernel's ceiling for the hard limit of every process";
    finding(
        "fs.nr_open",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .allows(found.map(|limit| target.connections_of_descriptors(limit)))
    .sysctl("fs.nr_open", needed)
}

pub(super) fn file_max(facts: &Facts, target: &Target) -> Finding {
    let open = facts.files_open.unwrap_or(0);
    let needed = target.files().saturating_add(open);
    let found = facts.file_max;
    let reason = format!(
        "open files of all processes together; {} are open now",
        grouped(open)
    );
    finding(
        "fs.file-max",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .allows(left(
        found,
        target.descriptors_beside().saturating_add(open),
    ))
    .sysctl("fs.file-max", needed)
}

pub(super) fn locked_memory(facts: &Facts, target: &Target) -> Finding {
    let needed = target.locked();
    let soft = facts.memlock.map(|limit| limit.soft);
    // An unknown kernel may charge.
    let is_charged = version(facts).is_none_or(|version| version >= KERNEL_CHARGES_RINGS);
    let (verdict, reason) = if is_charged {
        (
            enough(soft, needed),
            "from Linux 6.14 on rings count against it, those of all processes of a user together",
        )
    } else {
        (Verdict::Ok, "this kernel does not count rings against it")
    };
    finding(
        "locked memory",
        size(soft),
        size(Some(needed)),
        verdict,
        reason,
    )
    .unit("LimitMEMLOCK", "infinity")
}

pub(super) fn epoll_watches(facts: &Facts, target: &Target) -> Finding {
    let needed = target.files();
    let found = facts.epoll_watches;
    let reason =
        "with epoll each viewer is watched once; all processes of the server's user count together";
    finding(
        "fs.epoll.max_user_watches",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .allows(left(found, target.descriptors_beside()))
    .sysctl("fs.epoll.max_user_watches", needed)
}

/// The rest of a bound for viewers. "unlimited" stays unlimited.
fn left(bound: Option<u64>, beside: u64) -> Option<u64> {
    bound.map(|bound| match bound {
        UNLIMITED => UNLIMITED,
        bound => bound.saturating_sub(beside),
    })
}
