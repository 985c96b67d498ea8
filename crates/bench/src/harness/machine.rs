//! The machine, and processes on it, as `/proc` describes them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::netlink::{PACKET_BYTES_DEFAULT, packet_bytes};

/// Describes the machine in one line: processor, cores, kernel, and the loopback's largest packet
/// if it is not the default.
pub(crate) fn describe() -> String {
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

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time in user space.
    pub(crate) user: Duration,
    /// Processor time in the kernel.
    pub(crate) system: Duration,
    /// Memory of its own, in bytes (`Pss_Anon` and `Pss_Shmem` of `smaps_rollup`). Pages of files are not in it: those of the program
    /// go once a start is over, and come back as they are used, whatever the connections.
    pub(crate) memory: u64,
}

impl Usage {
    /// Reads the usage of a process; zeros if `/proc` has none.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Fields are counted from behind the name, which may contain anything: state is field 3,
        // utime 14, stime 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |index: usize| -> u64 {
            let field = fields.split_whitespace().nth(index - 3);
            field.and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Self {
            user: Duration::from_millis(ticks(14) * MS_PER_TICK),
            system: Duration::from_millis(ticks(15) * MS_PER_TICK),
            memory: bytes(&rollup, "Pss_Anon:") + bytes(&rollup, "Pss_Shmem:"),
        }
    }

    /// Returns the processor time since `before`: user, system.
    pub(crate) fn since(&self, before: &Self) -> [Duration; 2] {
        [
            self.user.saturating_sub(before.user),
            self.system.saturating_sub(before.system),
        ]
    }

    /// Returns the processor time since `before`, user and system together.
    pub(crate) fn busy_since(&self, before: &Self) -> Duration {
        self.since(before).iter().sum()
    }
}

/// Returns the time that each thread of a process has run on a processor, by thread id; nothing if
/// `/proc` has none.
pub(crate) fn thread_times(pid: u32) -> BTreeMap<u32, Duration> {
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

/// The machine's memory at one moment, from `/proc/meminfo`. All figures are in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meminfo {
    /// `Slab`: what the kernel holds for sockets and other objects, of the whole machine.
    pub(crate) slab: u64,
    /// `VmallocUsed`: large tables of the kernel.
    pub(crate) tables: u64,
    /// By how much `MemAvailable` is below `MemTotal`.
    pub(crate) used: u64,
}

impl Meminfo {
    pub(crate) fn now() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = |name| bytes(&meminfo, name);
        Self {
            slab: bytes("Slab:"),
            tables: bytes("VmallocUsed:"),
            used: bytes("MemTotal:").saturating_sub(bytes("MemAvailable:")),
        }
    }
}

/// Returns the memory in TCP's socket buffers of the whole machine, in bytes.
pub(crate) fn socket_buffers() -> u64 {
    // In pages, behind `mem` of the line `TCP:`.
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "mem")?;
        words.next()?.parse().ok()
    });
    pages.unwrap_or(0) * page_bytes()
}

/// Returns the memory in socket buffers above which the kernel begins to save it, in bytes; `None`
/// if the kernel does not tell.
pub(crate) fn socket_buffers_pressure() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_bytes())
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// `USER_HZ` is 100 on every Linux that Rust supports.
const MS_PER_TICK: u64 = 10;

/// Returns the figure behind `name`, which is in KiB, in bytes.
fn bytes(text: &str, name: &str) -> u64 {
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Returns the limit on open files of this process.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the processors of the machine, whatever this thread is pinned to.
fn cores() -> usize {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    count.max(1)
}

/// Pins this thread, and what it starts, to those of the `wanted` processors that exist.
pub(crate) fn pin(wanted: std::ops::Range<usize>) {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in wanted.start.min(cores() - 1)..wanted.end.min(cores()) {
        set.set(cpu);
    }
    // Unpinned figures are noisier, not wrong.
    let _best_effort = rustix::thread::sched_setaffinity(None, &set);
}

/// Pins this thread to the last processor. Shards are pinned from the first one on.
pub(crate) fn pin_to_last() {
    pin(cores() - 1..cores());
}

/// Reads a clock that all processes of the machine share, in nanoseconds.
pub(crate) fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("time since boot");
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("below a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: figures of `/proc` come in bytes, and a missing one is zero.
    #[test]
    fn figures_are_read_by_name() {
        let text = "MemTotal:       16 kB\nSlab:             3 kB\n";
        assert_eq!(bytes(text, "Slab:"), 3072);
        assert_eq!(bytes(text, "Pss:"), 0);
        let own = Usage::of(std::process::id());
        assert!(own.memory > 0);
        assert!(Meminfo::now().slab > 0);
    }
}
