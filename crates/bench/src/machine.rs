//! The machine and the server's process as `/proc` tells of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::loopback::{PACKET_BYTES_DEFAULT, packet_bytes};

/// One line: processor, cores, kernel, and the loopback's largest packet where it was changed.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = cores();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let packets = match packet_bytes() {
        Ok(bytes) if bytes != PACKET_BYTES_DEFAULT => {
            format!(", loopback packets of {bytes} bytes")
        }
        _ => String::new(),
    };
    format!("{model}, {cores} cores, Linux {}{packets}", kernel.trim())
}

/// What a process has used up so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// Private and proportional memory, in bytes (`Pss` of `smaps_rollup`).
    pub memory: u64,
}

impl Usage {
    /// Of a process; zeros where `/proc` does not tell.
    pub fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may contain anything: state is field 3, utime 14, stime 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |index: usize| -> u64 {
            let field = fields.split_whitespace().nth(index - 3);
            field.and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Self {
            user: Duration::from_millis(ticks(14) * MS_PER_TICK),
            system: Duration::from_millis(ticks(15) * MS_PER_TICK),
            memory: kilobytes(&rollup, "Pss:") * 1024,
        }
    }

    /// Processor time since `before`: user, system.
    pub fn since(&self, before: &Self) -> [Duration; 2] {
        [
            self.user.saturating_sub(before.user),
            self.system.saturating_sub(before.system),
        ]
    }

    /// Both together.
    pub fn busy_since(&self, before: &Self) -> Duration {
        self.since(before).iter().sum()
    }
}

/// Time on a processor of each thread of a process so far, by thread id; nothing where `/proc` does
/// not tell.
pub(super) fn thread_times(pid: u32) -> BTreeMap<u32, Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let time = |thread: fs::DirEntry| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = times.split_whitespace().next()?.parse().ok()?;
        Some((id, Duration::from_nanos(nanos)))
    };
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(time)
        .collect()
}

/// Memory the kernel holds for sockets and slabs of the whole machine, in bytes.
pub fn kernel_memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&meminfo, "Slab:") * 1024
}

/// `USER_HZ` is 100 on every Linux that Rust supports.
const MS_PER_TICK: u64 = 10;

fn kilobytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Processors of the machine, whatever this thread is pinned to.
fn cores() -> usize {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    count.max(1)
}

/// Files that this process may open.
pub(super) fn descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Pins this thread, and what it starts, to some of the processors, as far as they exist.
pub(super) fn pin(wanted: std::ops::Range<usize>) {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in wanted.start.min(cores() - 1)..wanted.end.min(cores()) {
        set.set(cpu);
    }
    // Unpinned figures are noisier, not wrong.
    let _best_effort = rustix::thread::sched_setaffinity(None, &set);
}

/// Pins this thread to the last processor, away from the shards, which are pinned from the first on.
pub(super) fn pin_to_last() {
    pin(cores() - 1..cores());
}
