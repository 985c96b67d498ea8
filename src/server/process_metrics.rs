//! Metrics of the process, of the kernel's memory for sockets, and of the build: those of Prometheus' client
//! libraries, under their names.
//!
//! Read from `/proc` at each scrape: 48 µs, nearly all of it in the kernel. Unreadable values are left out.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::clock;
use crate::exposition::{Exposition, Family};
use crate::net::backend::Kind;
use uproar_proto::base::clock::UnixTime;

/// Metrics of this process.
pub(super) struct ProcessMetrics {
    // Since the Unix epoch.
    started: UnixTime,
    io: Kind,
    data_dir: PathBuf,
}

/// Fields of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Fields of the line `TCP:` in `/proc/net/sockstat`.
#[derive(Debug, PartialEq, Eq)]
struct Sockets {
    orphans: u64,
    memory_pages: u64,
}

impl ProcessMetrics {
    /// Call at the process's start.
    pub(super) fn new(io: Kind, data_dir: PathBuf) -> Self {
        let started = clock::unix_now();
        Self {
            started,
            io,
            data_dir,
        }
    }

    /// Adds everything to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition) {
        let build = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", env!("UPROAR_COMMIT")),
            ("arch", std::env::consts::ARCH),
            (
                "profile",
                if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                },
            ),
            ("features", env!("UPROAR_FEATURES")),
            ("target", env!("UPROAR_TARGET")),
        ];
        page.family(&BUILD).add(&build, 1);
        page.family(&IO).add(&[("backend", self.io.name())], 1);
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let spent = Duration::try_from(spent).unwrap_or_default();
        page.single(&CPU, spent.as_secs_f64());
        let started = Duration::from_nanos(self.started.nanos());
        page.single(&START, started.as_secs_f64());
        memory(page);
        descriptors(page);
        sockets(page);
        self.disk(page);
    }

    /// The file system of the data directory, as this user may fill it.
    fn disk(&self, page: &mut Exposition) {
        let Ok(found) = rustix::fs::statvfs(&self.data_dir) else {
            return;
        };
        page.single(&DISK_FREE, found.f_bavail * found.f_frsize);
        page.single(&DISK, found.f_blocks * found.f_frsize);
    }
}

const BUILD: Family = Family::gauge("uproar_build_info", "Which build this is; always 1.");
const IO: Family = Family::gauge(
    "uproar_io_info",
    "What moves the bytes of viewers: io_uring or epoll; always 1.",
);
const CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    "CPU time of all threads, user and system, in seconds.",
);
const START: Family = Family::gauge(
    "process_start_time_seconds",
    "Start of the process, in seconds since the Unix epoch.",
);
const THREADS: Family = Family::gauge("process_threads", "Threads of the process.");
const VIRTUAL: Family = Family::gauge(
    "process_virtual_memory_bytes",
    "Address space of the process, in bytes.",
);
const RESIDENT: Family = Family::gauge(
    "process_resident_memory_bytes",
    "Memory of the process in use, in bytes.",
);
const OPEN_FDS: Family = Family::gauge(
    "process_open_fds",
    "Open file descriptors; viewers take one each with epoll, none with io_uring.",
);
const MAX_FDS: Family = Family::gauge("process_max_fds", "Limit on open file descriptors.");
const DISK_FREE: Family = Family::gauge(
    "uproar_data_disk_free_bytes",
    "Space that the server may still fill on the file system of its data directory, in bytes.",
);
const DISK: Family = Family::gauge(
    "uproar_data_disk_bytes",
    "Size of the file system of the data directory, in bytes.",
);
const TCP_MEMORY: Family = Family::gauge(
    "uproar_kernel_tcp_memory_bytes",
    "The kernel's memory for TCP sockets, of all processes, in bytes.",
);
const TCP_ORPHANS: Family = Family::gauge(
    "uproar_kernel_tcp_orphans",
    "TCP connections that the kernel still serves though no process holds them.",
);
const TCP_MEMORY_MAX: Family = Family::gauge(
    "uproar_kernel_tcp_memory_max_bytes",
    "Memory for TCP, in bytes, at which the kernel begins to drop (net.ipv4.tcp_mem).",
);

fn memory(page: &mut Exposition) {
    let stat = fs::read_to_string("/proc/self/stat");
    let Some(stat) = stat.ok().as_deref().and_then(parse_stat) else {
        return;
    };
    page.single(&THREADS, stat.threads);
    page.single(&VIRTUAL, stat.virtual_bytes);
    page.single(&RESIDENT, stat.resident_pages * page_bytes());
}

fn descriptors(page: &mut Exposition) {
    if let Some(open) = open_descriptors() {
        page.single(&OPEN_FDS, open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.single(&MAX_FDS, most);
    }
}

/// Since Linux 6.2 the number is the directory's size; before, its entries must be counted.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // Without the descriptor of this directory.
    u64::try_from(entries.saturating_sub(1)).ok()
}

fn sockets(page: &mut Exposition) {
    let sockstat = fs::read_to_string("/proc/net/sockstat");
    if let Some(sockets) = sockstat.ok().as_deref().and_then(parse_sockstat) {
        page.single(&TCP_MEMORY, sockets.memory_pages * page_bytes());
        page.single(&TCP_ORPHANS, sockets.orphans);
    }
    let limit = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem");
    if let Some(pages) = limit.ok().as_deref().and_then(|text| nth(text, 2)) {
        page.single(&TCP_MEMORY_MAX, pages * page_bytes());
    }
}

/// Memory of this process in use, in bytes; 0 if the kernel does not say.
pub(super) fn resident_bytes() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(parse_stat);
    stat.map_or(0, |stat| stat.resident_pages * page_bytes())
}

fn page_bytes() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// Fields are counted after the program's name, which may contain spaces and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    Some(Stat {
        threads: nth(fields, 17)?,
        virtual_bytes: nth(fields, 20)?,
        resident_pages: nth(fields, 21)?,
    })
}

fn parse_sockstat(text: &str) -> Option<Sockets> {
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let value = |name: &str| {
        let mut words = tcp.split_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    Some(Sockets {
        orphans: value("orphan")?,
        memory_pages: value("mem")?,
    })
}

fn nth(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the kernel's texts are parsed correctly, and other texts not at all.
    #[test]
    fn kernel_texts_are_parsed() {
        let stat = "4242 (a) b (c)) S 1 2 3 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 6 0 900 123456789 4321 18446744073709551615 1 1\n";
        let read = Stat {
            threads: 6,
            virtual_bytes: 123_456_789,
            resident_pages: 4321,
        };
        assert_eq!(parse_stat(stat), Some(read));
        let sockstat =
            "sockets: used 210\nTCP: inuse 8 orphan 3 tw 12 alloc 21 mem 17\nUDP: inuse 2 mem 1\n";
        let read = Sockets {
            orphans: 3,
            memory_pages: 17,
        };
        assert_eq!(parse_sockstat(sockstat), Some(read));
        for text in ["", ")", "1 (x) S 1", "TCP: orphan", "TCP:\n", "UDP: mem 3"] {
            assert_eq!(
                (parse_stat(text), parse_sockstat(text)),
                (None, None),
                "{text}"
            );
        }
    }

    /// Goal: for this process each family occurs once, described, with a plausible value.
    #[test]
    fn this_process_is_shown() {
        let mut page = Exposition::new();
        ProcessMetrics::new(Kind::Epoll, std::env::temp_dir()).render(&mut page);
        let out = page.into_text();
        let value = |name: &str| -> f64 {
            let mut lines = out
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value = lines
                .next()
                .unwrap_or_else(|| panic!("{name} is missing:\n{out}"));
            assert_eq!(lines.next(), None, "{name}");
            value.parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(
            value("uproar_kernel_tcp_memory_max_bytes") >= value("uproar_kernel_tcp_memory_bytes")
        );
    }
}
