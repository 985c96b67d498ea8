//! Settings of TCP, of the firewall and of network interfaces.

use crate::doctor::facts::{Facts, Interface};
use crate::doctor::finding::{Finding, Verdict, enough, finding};
use crate::doctor::need::{PAGE_BYTES, Target, connections_of_pages, connections_of_tracked};
use crate::doctor::show::{grouped, shown, size};
use uproar_proto::base::limits::{ACCEPT_BACKLOG, SOCKET_SEND_BYTES};

/// Closed connections that the kernel still serves on a small server.
const ORPHANS_MIN: u64 = 4096;
/// Ports from 1024 on: the connections one address can open to one other.
const PORTS_MAX: u64 = 65_535 - 1024 + 1;

pub(super) fn somaxconn(facts: &Facts) -> Finding {
    let needed = u64::from(ACCEPT_BACKLOG.unsigned_abs());
    let found = facts.somaxconn;
    let reason = "connections that may wait for accept, for each shard; in a rush the kernel drops the others, and their clients retry";
    finding(
        "net.core.somaxconn",
        shown(found),
        grouped(needed),
        enough(found, needed),
        reason,
    )
    .sysctl("net.core.somaxconn", needed)
}

pub(super) fn syncookies(facts: &Facts) -> Finding {
    let found = facts.syncookies;
    finding(
        "net.ipv4.tcp_syncookies",
        shown(found),
        "1",
        enough(found, 1),
        "without SYN cookies, SYNs from forged addresses fill the kernel's queue before any limit of the server applies",
    )
    .sysctl("net.ipv4.tcp_syncookies", 1)
}

/// Connections that are all closed at once, as at a stop, are orphans for a round trip.
pub(super) fn max_orphans(facts: &Facts, target: &Target) -> Finding {
    let needed = (target.connections / 10).max(ORPHANS_MIN);
    let found = facts.max_orphans;
    finding(
        "net.ipv4.tcp_max_orphans",
        shown(found),
        grouped(needed),
        enough(found, needed),
        "closed connections whose last bytes the kernel still delivers; beyond the limit they are reset and lose them",
    )
    .sysctl("net.ipv4.tcp_max_orphans", needed)
}

pub(super) fn ports(facts: &Facts, target: &Target) -> Finding {
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
            "a server needs one port; load generators or proxies need enough addresses for {} connections: {}",
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

pub(super) fn tcp_mem(facts: &Facts, target: &Target) -> Finding {
    let needed = target.tcp_pages();
    let most = facts.tcp_mem.map(|[_, _, most]| most);
    let reason = format!(
        "pages of socket buffers, beyond which the kernel drops packets; needed is one for each viewer, and a full buffer ({}) for 1 viewer in 100",
        size(u64::try_from(SOCKET_SEND_BYTES).ok())
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
pub(super) fn floor(
    key: &'static str,
    found: Option<[u64; 3]>,
    facts: &Facts,
    target: &Target,
) -> Finding {
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
    let reason =
        "memory that each socket may use even when tcp_mem is used up; an idle socket uses none";
    finding(key, shown(least), needed, verdict, reason)
        .sysctl(key, format!("{PAGE_BYTES} {default} {most}"))
}

pub(super) fn conntrack(facts: &Facts, target: &Target) -> Finding {
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
    let reason = "the firewall keeps two entries for each connection, because broken ones stay for minutes; or exempt the messaging port from tracking";
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

pub(super) fn receiving(interface: &Interface, cpus: Option<u64>, target: &Target) -> Finding {
    let check = format!("{} receives on", interface.name);
    let cpus = cpus.unwrap_or(1).max(1);
    let needed = target.receiving_cpus().clamp(1, cpus);
    let found = interface.receiving_cpus;
    let mask = (0..cpus.min(32)).fold(0_u64, |mask, cpu| mask | 1 << cpu);
    let verdict = enough(Some(found), needed);
    let reason = if verdict == Verdict::Change {
        format!(
            "too few processors receive the viewers' acknowledgements: spread the interface's interrupts, or run `echo {mask:x} | tee /sys/class/net/{}/queues/rx-*/rps_cpus`",
            interface.name
        )
    } else {
        "processors that receive the viewers' acknowledgements; one serves 25,000 viewers in busy rooms"
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
