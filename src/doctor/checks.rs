//! Compares facts with requirements.

use super::facts::{Facts, Interface, UNLIMITED};
use super::need::{
    CONNECTION_KERNEL_BYTES, CONNECTION_USER_BYTES, PAGE_BYTES, Target, connections_of_pages,
    connections_of_tracked, memory_per_connection,
};
use super::{Finding, Remedy, Verdict};
use uproar_proto::base::limits::ACCEPT_BACKLOG;

const KERNEL: &str = "kernel";
const URING: &str = "io_uring allowed";
const RING: &str = "io_uring ring";
const NOFILE: &str = "open files";
/// Findings that a server's start reports by itself.
pub(super) const REPORTED_AT_START: [&str; 4] = [KERNEL, URING, RING, NOFILE];

/// First kernel with everything the rings use.
const KERNEL_MIN: (u64, u64) = (6, 1);
/// First kernel that counts rings to locked memory again, since they became regions there; from 5.12 on none did.
/// Measured on 6.18 only.
const KERNEL_CHARGES_RINGS: (u64, u64) = (6, 14);
/// Closed connections that the kernel still serves on a small server.
const ORPHANS_MIN: u64 = 4096;
/// Ports from 1024 on: the connections one address can open to one other.
const PORTS_MAX: u64 = 65_535 - 1024 + 1;

/// Checks everything, in reading order.
pub fn examine(facts: &Facts, target: &Target) -> Vec<Finding> {
    let mut findings = vec![
        kernel(facts),
        uring(facts),
        ring(facts),
        open_files(facts, target),
        soft_limit(facts, target),
        nr_open(facts, target),
        file_max(facts, target),
        locked_memory(facts, target),
        somaxconn(facts),
        syncookies(facts),
        max_orphans(facts, target),
        ports(facts, target),
        tcp_mem(facts, target),
        floor("net.ipv4.tcp_wmem", facts.tcp_wmem, facts, target),
        floor("net.ipv4.tcp_rmem", facts.tcp_rmem, facts, target),
        conntrack(facts, target),
        memory(facts, target),
        group_memory(facts, target),
        group_pids(facts, target),
        group_cpu(facts, target),
        huge_pages(facts),
        processors(facts, target),
    ];
    let of_interface = |interface| receiving(interface, facts.cpus, target);
    findings.extend(facts.interfaces.iter().map(of_interface));
    findings
}

fn finding(
    check: &str,
    found: impl ToString,
    needed: impl ToString,
    verdict: Verdict,
    reason: impl ToString,
) -> Finding {
    Finding {
        check: check.to_owned(),
        found: found.to_string(),
        needed: needed.to_string(),
        verdict,
        reason: reason.to_string(),
        connections_max: None,
        remedy: None,
    }
}

impl Finding {
    fn allows(mut self, connections: Option<u64>) -> Self {
        self.connections_max = connections;
        self
    }

    fn sysctl(mut self, key: &'static str, value: impl ToString) -> Self {
        if self.verdict == Verdict::Change {
            let value = value.to_string();
            self.remedy = Some(Remedy::Sysctl { key, value });
        }
        self
    }

    fn unit(mut self, directive: &'static str, value: impl ToString) -> Self {
        if self.verdict == Verdict::Change {
            let value = value.to_string();
            self.remedy = Some(Remedy::Unit { directive, value });
        }
        self
    }
}

fn enough(found: Option<u64>, needed: u64) -> Verdict {
    match found {
        None => Verdict::Unknown,
        Some(found) if found >= needed => Verdict::Ok,
        Some(_) => Verdict::Change,
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    if number == UNLIMITED {
        return "unlimited".to_owned();
    }
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The rest of a bound for viewers. "unlimited" stays unlimited.
fn left(bound: Option<u64>, beside: u64) -> Option<u64> {
    bound.map(|bound| match bound {
        UNLIMITED => UNLIMITED,
        bound => bound.saturating_sub(beside),
    })
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), grouped)
}

fn size(bytes: Option<u64>) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        None => "?".to_owned(),
        Some(UNLIMITED) => grouped(UNLIMITED),
        Some(bytes) if bytes < MIB => format!("{} KiB", bytes.div_ceil(1024)),
        Some(bytes) => format!("{} MiB", grouped(bytes.div_ceil(MIB))),
    }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(facts: &Facts) -> Option<(u64, u64)> {
    let mut parts = facts
        .release
        .as_deref()?
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Finding {
    let version = version(facts);
    let verdict = match version {
        None => Verdict::Unknown,
        Some(version) if version >= KERNEL_MIN => Verdict::Ok,
        Some(_) => Verdict::Change,
    };
    let found = facts.release.as_deref().unwrap_or("?");
    let reason = "buffer rings, multishot receives and deferred work in one ring";
    finding(KERNEL, found, "6.1 or later", verdict, reason)
        .allows((verdict == Verdict::Change).then_some(0))
}

fn uring(facts: &Facts) -> Finding {
    let group = facts.uring_group.unwrap_or(-1);
    let (verdict, reason) = match (facts.uring_disabled, facts.release.is_some()) {
        (Some(0), _) => (Verdict::Ok, "everybody may use it".to_owned()),
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
            "it is switched off for everybody".to_owned(),
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

fn ring(facts: &Facts) -> Finding {
    let (verdict, found, reason) = match &facts.ring {
        None => (
            Verdict::Unknown,
            "not tried",
            "nothing was set up".to_owned(),
        ),
        Some(Err(why)) => (Verdict::Change, "refused", why.clone()),
        Some(Ok(missing)) if missing.is_empty() => (
            Verdict::Ok,
            "works",
            "set up, entered and asked for its operations, as this user".to_owned(),
        ),
        Some(Ok(missing)) => (
            Verdict::Change,
            "incomplete",
            format!("the kernel lacks {}", missing.join(", ")),
        ),
    };
    finding(RING, found, "works", verdict, reason).allows((verdict == Verdict::Change).then_some(0))
}

fn open_files(facts: &Facts, target: &Target) -> Finding {
    let needed = target.descriptors();
    let hard = facts.nofile.map(|limit| limit.hard);
    let beside = target.descriptors_beside();
    let share = if target.opens {
        "one a connection"
    } else {
        "connections are in the rings' tables, each of which this bounds; handshakes"
    };
    let reason = format!(
        "{share}, and {beside} for the rest; this process's hard limit, a unit has its own (--pid)"
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

fn soft_limit(facts: &Facts, target: &Target) -> Finding {
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

fn nr_open(facts: &Facts, target: &Target) -> Finding {
    let needed = target.descriptors();
    let found = facts.nr_open;
    let reason = "the kernel's ceiling of the hard limit of each process";
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

fn file_max(facts: &Facts, target: &Target) -> Finding {
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

fn locked_memory(facts: &Facts, target: &Target) -> Finding {
    let needed = target.locked();
    let soft = facts.memlock.map(|limit| limit.soft);
    // An unknown kernel may charge.
    let is_charged = version(facts).is_none_or(|version| version >= KERNEL_CHARGES_RINGS);
    let (verdict, reason) = if is_charged {
        (
            enough(soft, needed),
            "rings count to it from Linux 6.14 on, all of one user's together",
        )
    } else {
        (Verdict::Ok, "this kernel does not count rings to it")
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

fn somaxconn(facts: &Facts) -> Finding {
    let needed = u64::from(ACCEPT_BACKLOG.unsigned_abs());
    let found = facts.somaxconn;
    let reason = "connections that may wait for accept, each shard; beyond it a rush is dropped and tries again";
    finding(
        "net.core.somaxconn",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .sysctl("net.core.somaxconn", needed)
}

fn syncookies(facts: &Facts) -> Finding {
    let found = facts.syncookies;
    finding(
        "net.ipv4.tcp_syncookies",
        shown(found),
        "1",
        enough(found, 1),
        "without, who sends SYNs from made-up addresses fills the kernel's queue, before any share of ours",
    )
    .sysctl("net.ipv4.tcp_syncookies", 1)
}

/// Connections that are all closed at once, as at a stop, are orphans for a round trip.
fn max_orphans(facts: &Facts, target: &Target) -> Finding {
    let needed = (target.connections / 10).max(ORPHANS_MIN);
    let found = facts.max_orphans;
    finding(
        "net.ipv4.tcp_max_orphans",
        shown(found),
        grouped(needed),
        enough(found, needed),
        "closed connections that the kernel still delivers; beyond it they are reset and miss what was said last",
    )
    .sysctl("net.ipv4.tcp_max_orphans", needed)
}

fn ports(facts: &Facts, target: &Target) -> Finding {
    let count = facts
        .ports
        .map(|[first, last]| last.saturating_sub(first).saturating_add(1));
    let found = facts
        .ports
        .map_or_else(|| "?".to_owned(), |[first, last]| format!("{first} {last}"));
    let each = count.unwrap_or(PORTS_MAX).max(1);
    let key = "net.ipv4.ip_local_port_range";
    if !target.opens {
        let verdict = if count.is_some() {
            Verdict::Ok
        } else {
            Verdict::Unknown
        };
        let reason = format!(
            "a server needs one port; many load generators or proxy addresses must share {} between them: {}",
            grouped(target.connections),
            target.connections.div_ceil(each)
        );
        return finding(key, found, "any", verdict, reason);
    }
    let needed = target.connections.min(PORTS_MAX);
    let reason = format!(
        "connections from one address to one server address and port; {} addresses at most needed",
        target.connections.div_ceil(PORTS_MAX)
    );
    finding(
        key,
        found,
        format!("{} ports", grouped(needed)),
        enough(count, needed),
        reason,
    )
    .sysctl(key, "1024 65535")
}

fn tcp_mem(facts: &Facts, target: &Target) -> Finding {
    let needed = target.tcp_pages();
    let most = facts.tcp_mem.map(|[_, _, most]| most);
    let reason = format!(
        "pages of socket buffers, beyond which the kernel drops: one a viewer, and full ones ({}) for 1 in 100",
        size(u64::try_from(uproar_proto::base::limits::SOCKET_SEND_BYTES).ok())
    );
    finding(
        "net.ipv4.tcp_mem",
        shown(most),
        grouped(needed),
        enough(most, needed),
        reason,
    )
    .allows(most.map(connections_of_pages))
    // The kernel's own proportions.
    .sysctl(
        "net.ipv4.tcp_mem",
        format!("{} {} {needed}", needed / 2, needed / 3 * 2),
    )
}

/// The first value, which the kernel grants each socket even under memory pressure.
fn floor(key: &'static str, found: Option<[u64; 3]>, facts: &Facts, target: &Target) -> Finding {
    let least = found.map(|[least, _, _]| least);
    let pages = target
        .tcp_pages()
        .max(facts.tcp_mem.map_or(0, |[_, _, most]| most));
    let share = pages.saturating_mul(PAGE_BYTES) / target.connections.max(1) / 2;
    // Less than a page saves nothing.
    let bound = share.max(PAGE_BYTES);
    let verdict = match least {
        None => Verdict::Unknown,
        Some(least) if least <= bound => Verdict::Ok,
        Some(_) => Verdict::Change,
    };
    let default = found.map_or(0, |[_, default, _]| default);
    let most = found.map_or(0, |[_, _, most]| most);
    let needed = format!("{} or less", grouped(bound));
    let reason = "the least each socket gets even when tcp_mem is used up; an idle one holds none";
    finding(key, shown(least), needed, verdict, reason)
        .sysctl(key, format!("{PAGE_BYTES} {default} {most}"))
}

fn conntrack(facts: &Facts, target: &Target) -> Finding {
    let check = "net.netfilter.nf_conntrack_max";
    let needed = target.tracked();
    let Some(found) = facts.conntrack else {
        return finding(
            check,
            "not loaded",
            "none",
            Verdict::Ok,
            "no firewall tracks connections here",
        );
    };
    let reason = "two for each connection, as those that broke are kept for minutes; or do not track the messaging port";
    finding(
        check,
        grouped(found),
        grouped(needed),
        enough(Some(found), needed),
        reason,
    )
    .allows(Some(connections_of_tracked(found)))
    .sysctl(check, needed)
}

fn connections_of_memory(bytes: Option<u64>, target: &Target) -> Option<u64> {
    let bytes = bytes?.saturating_sub(target.memory_beside());
    Some(bytes / memory_per_connection())
}

fn memory(facts: &Facts, target: &Target) -> Finding {
    let needed = target.memory();
    let found = facts.memory;
    let idle = (CONNECTION_USER_BYTES + CONNECTION_KERNEL_BYTES).saturating_mul(target.connections);
    let reason = format!(
        "available now; idle connections take {} (0.4 KB user, 4.9 KB kernel each), buffers under load the rest",
        size(Some(idle))
    );
    finding(
        "memory",
        size(found),
        size(Some(needed)),
        enough(found, needed),
        reason,
    )
    .allows(connections_of_memory(found, target))
}

fn of_group(known: &str, bound: Option<u64>) -> String {
    if bound.is_some() {
        known.to_owned()
    } else {
        "control groups of version 1, or unreadable: look at their own limit".to_owned()
    }
}

fn group_memory(facts: &Facts, target: &Target) -> Finding {
    let needed = target.memory();
    let found = facts.group_memory;
    let reason = of_group(
        "kernel memory of sockets counts to the control group as well",
        found,
    );
    finding(
        "cgroup memory.max",
        size(found),
        size(Some(needed)),
        enough(found, needed),
        reason,
    )
    .allows(connections_of_memory(found, target))
    .unit("MemoryMax", needed)
}

fn group_pids(facts: &Facts, target: &Target) -> Finding {
    let needed = target.threads();
    let found = facts.group_pids;
    let reason = of_group(
        "threads: shards, control, archive, and workers of kernel and storage",
        found,
    );
    finding(
        "cgroup pids.max",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .unit("TasksMax", needed)
}

fn group_cpu(facts: &Facts, target: &Target) -> Finding {
    let needed = target.shards.saturating_mul(100);
    let found = facts.group_cpu;
    let shown = found.map_or_else(
        || "?".to_owned(),
        |share| match share {
            UNLIMITED => grouped(UNLIMITED),
            share => format!("{share}%"),
        },
    );
    let reason = of_group(
        "a shard that has used up its quota stands still for the rest of the period",
        found,
    );
    finding(
        "cgroup cpu.max",
        shown,
        format!("{needed}%"),
        enough(found, needed),
        reason,
    )
    .unit("CPUQuota", format!("{needed}%"))
}

fn huge_pages(facts: &Facts) -> Finding {
    let (verdict, found) = match &facts.huge_pages {
        Some(mode) => (Verdict::Ok, mode.as_str()),
        None => (Verdict::Ok, "none"),
    };
    let reason = "the server keeps transparent huge pages away from itself";
    finding("transparent huge pages", found, "any", verdict, reason)
}

fn processors(facts: &Facts, target: &Target) -> Finding {
    let found = facts.cpus;
    let reason = "one for each shard, or shards take turns: fewer --shards, or more processors";
    finding(
        "processors",
        shown(found),
        grouped(target.shards),
        enough(found, target.shards),
        reason,
    )
}

fn receiving(interface: &Interface, cpus: Option<u64>, target: &Target) -> Finding {
    let check = format!("{} receives on", interface.name);
    let cpus = cpus.unwrap_or(1).max(1);
    let needed = target.receiving_cpus().clamp(1, cpus);
    let found = interface.receiving_cpus;
    let mask = (0..cpus.min(32)).fold(0_u64, |mask, cpu| mask | 1 << cpu);
    let verdict = enough(Some(found), needed);
    let reason = if verdict == Verdict::Change {
        format!(
            "acknowledgements of all viewers: spread its interrupts, or `echo {mask:x} | tee /sys/class/net/{}/queues/rx-*/rps_cpus`",
            interface.name
        )
    } else {
        "processors that take in viewers' acknowledgements; one does for 25,000 in busy rooms"
            .to_owned()
    };
    let found = format!("{found} of {cpus} (queues: {})", interface.queues);
    finding(
        &check,
        found,
        format!("{needed} of {cpus}"),
        verdict,
        reason,
    )
}
