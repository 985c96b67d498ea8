//! Memory and processors, of the machine and of the control group.

use crate::doctor::facts::{Facts, UNLIMITED};
use crate::doctor::finding::{Finding, enough, finding};
use crate::doctor::need::{
    CONNECTION_KERNEL_BYTES, CONNECTION_USER_BYTES, Target, memory_per_connection,
};
use crate::doctor::show::{grouped, shown, size};

fn connections_of_memory(bytes: Option<u64>, target: &Target) -> Option<u64> {
    let bytes = bytes?.saturating_sub(target.memory_beside());
    Some(bytes / memory_per_connection())
}

pub(super) fn memory(facts: &Facts, target: &Target) -> Finding {
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
        "no limit of a version 2 control group can be read: check the group's limit by hand"
            .to_owned()
    }
}

pub(super) fn group_memory(facts: &Facts, target: &Target) -> Finding {
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

pub(super) fn group_pids(facts: &Facts, target: &Target) -> Finding {
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

pub(super) fn group_cpu(facts: &Facts, target: &Target) -> Finding {
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
        "a shard stops for the rest of the period once the group's quota is used up",
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

pub(super) fn processors(facts: &Facts, target: &Target) -> Finding {
    let found = facts.cpus;
    let reason = "each shard needs a processor of its own: use fewer --shards, or more processors";
    finding(
        "processors",
        shown(found),
        grouped(target.shards),
        enough(found, target.shards),
        reason,
    )
}
