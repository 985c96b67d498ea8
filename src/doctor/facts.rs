//! Facts about a machine, parsed from the texts of `/proc` and `/sys`.
//!
//! Pure: a [`Source`] provides the texts. A text that cannot be read or understood is `None`, never a guess.

/// Source of the texts: the machine, or a test.
pub(crate) trait Source {
    /// The text of a file, if it can be read.
    fn text(&self, path: &str) -> Option<String>;
    /// Names in a directory, sorted; none if it cannot be read.
    fn names(&self, path: &str) -> Vec<String>;
}

/// A bound of a process or control group; [`UNLIMITED`] if there is none.
pub(crate) type Bound = Option<u64>;
/// "unlimited", "max", "infinity".
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// Soft and hard limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The current limit.
    pub soft: u64,
    /// The maximum the process may set itself.
    pub hard: u64,
}

/// A network interface with hardware behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// As in `ip link`.
    pub name: String,
    /// Receive queues.
    pub queues: u64,
    /// Processors that take part in receiving: by interrupts, or by RPS if that is set.
    pub receiving_cpus: u64,
}

/// Everything that is checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// As `uname -r`.
    pub release: Option<String>,
    /// `kernel.io_uring_disabled`; kernels before 6.6 have no such switch.
    pub uring_disabled: Option<u64>,
    /// `kernel.io_uring_group`, -1 for none.
    pub uring_group: Option<i64>,
    /// Operations that a test ring lacks, or why there is no ring; `None`: not tried.
    pub ring: Option<Result<Vec<&'static str>, String>>,
    /// Open files.
    pub nofile: Option<Limit>,
    /// Locked memory, in bytes.
    pub memlock: Option<Limit>,
    /// `fs.nr_open`.
    pub nr_open: Option<u64>,
    /// `fs.file-max`.
    pub file_max: Option<u64>,
    /// Files open now, all processes.
    pub files_open: Option<u64>,
    /// `fs.epoll.max_user_watches`.
    pub epoll_watches: Option<u64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 is off.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_max_orphans`.
    pub max_orphans: Option<u64>,
    /// First and last of `net.ipv4.ip_local_port_range`.
    pub ports: Option<[u64; 2]>,
    /// `net.ipv4.tcp_mem`, in pages: calm, pressure, most.
    pub tcp_mem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`, in bytes: least, first, most.
    pub tcp_wmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_rmem`, as above.
    pub tcp_rmem: Option<[u64; 3]>,
    /// `net.netfilter.nf_conntrack_max`; `None`: no connection is tracked.
    pub conntrack: Option<u64>,
    /// Memory available now, in bytes.
    pub memory: Option<u64>,
    /// Smallest `memory.max` of the control group and those above it.
    pub group_memory: Bound,
    /// Smallest `pids.max`.
    pub group_pids: Bound,
    /// Smallest `cpu.max`, in hundredths of a processor.
    pub group_cpu: Bound,
    /// The chosen word of `transparent_hugepage/enabled`.
    pub huge_pages: Option<String>,
    /// Processors the process may use.
    pub cpus: Option<u64>,
    /// Interfaces with hardware behind them.
    pub interfaces: Vec<Interface>,
}

impl Facts {
    /// Reads everything except [`Facts::ring`]; limits and groups are those of `process` ("self" or an id).
    pub(crate) fn read(source: &impl Source, process: &str) -> Self {
        let sys = |name: &str| source.text(&format!("/proc/sys/{name}"));
        let number = |name: &str| numbers::<1>(&sys(name)?).map(|[only]| only);
        let of_process = |name: &str| source.text(&format!("/proc/{process}/{name}"));
        let limits = of_process("limits").unwrap_or_default();
        let groups = of_process("cgroup").unwrap_or_default();
        Self {
            release: sys("kernel/osrelease").map(|text| text.trim().to_owned()),
            uring_disabled: number("kernel/io_uring_disabled"),
            uring_group: sys("kernel/io_uring_group").and_then(|text| text.trim().parse().ok()),
            ring: None,
            nofile: limit(&limits, "Max open files"),
            memlock: limit(&limits, "Max locked memory"),
            nr_open: number("fs/nr_open"),
            file_max: number("fs/file-max"),
            files_open: sys("fs/file-nr").and_then(|text| Some(numbers::<3>(&text)?[0])),
            epoll_watches: number("fs/epoll/max_user_watches"),
            somaxconn: number("net/core/somaxconn"),
            syncookies: number("net/ipv4/tcp_syncookies"),
            max_orphans: number("net/ipv4/tcp_max_orphans"),
            ports: sys("net/ipv4/ip_local_port_range").and_then(|text| numbers(&text)),
            tcp_mem: sys("net/ipv4/tcp_mem").and_then(|text| numbers(&text)),
            tcp_wmem: sys("net/ipv4/tcp_wmem").and_then(|text| numbers(&text)),
            tcp_rmem: sys("net/ipv4/tcp_rmem").and_then(|text| numbers(&text)),
            conntrack: number("net/netfilter/nf_conntrack_max"),
            memory: source
                .text("/proc/meminfo")
                .and_then(|text| field(&text, "MemAvailable:")?.parse::<u64>().ok())
                .map(|kilobytes| kilobytes.saturating_mul(1024)),
            group_memory: group_bound(source, &groups, "memory", "memory.max", bound),
            group_pids: group_bound(source, &groups, "pids", "pids.max", bound),
            group_cpu: group_bound(source, &groups, "cpu", "cpu.max", cpu_share),
            huge_pages: source
                .text("/sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
            cpus: of_process("status")
                .and_then(|text| cpus_listed(field(&text, "Cpus_allowed_list:")?)),
            interfaces: interfaces(source),
        }
    }
}

/// Exactly `N` numbers between blanks.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let all: Option<Vec<u64>> = text
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    all?.try_into().ok()
}

/// The first word after a name at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()
}

fn bound(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "unlimited" => Some(UNLIMITED),
        number => number.parse().ok(),
    }
}

fn limit(limits: &str, name: &str) -> Option<Limit> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = rest.split_whitespace().map(bound);
    Some(Limit {
        soft: words.next()??,
        hard: words.next()??,
    })
}

/// `cpu.max`: quota and period in microseconds, to hundredths of a processor.
fn cpu_share(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let period: u64 = period.parse().ok()?;
    match bound(quota)? {
        UNLIMITED => Some(UNLIMITED),
        quota => quota.checked_mul(100)?.checked_div(period),
    }
}

/// The smallest bound from the process's group (version 2) up to the root, which has no file of its own.
/// `None` where the controller is still bound to version 1.
fn group_bound(
    source: &impl Source,
    groups: &str,
    controller: &str,
    file: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Bound {
    let of_version_1 = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts
            .next()
            .is_some_and(|names| names.split(',').any(|name| name == controller))
    };
    if groups.lines().any(of_version_1) {
        return None;
    }
    let mut path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut least = UNLIMITED;
    loop {
        if let Some(text) = source.text(&format!("/sys/fs/cgroup{path}/{file}")) {
            least = least.min(parse(&text)?);
        }
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => return Some(least),
        }
    }
}

/// Number of processors in a list such as `0-3,8`.
fn cpus_listed(list: &str) -> Option<u64> {
    let mut count = 0_u64;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// Number of processors in a mask such as `ff,ffffffff`.
fn cpus_masked(mask: &str) -> u64 {
    mask.chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| u64::from(digit.count_ones()))
        .sum()
}

fn interfaces(source: &impl Source) -> Vec<Interface> {
    let mut found = Vec::new();
    for name in source.names("/sys/class/net") {
        let root = format!("/sys/class/net/{name}");
        // Bridges, tunnels and the loopback have no device; an interface that is down carries nothing.
        let is_up = source
            .text(&format!("{root}/operstate"))
            .is_some_and(|state| state.trim() == "up");
        if !is_up || source.names(&format!("{root}/device")).is_empty() {
            continue;
        }
        let queues = source.names(&format!("{root}/queues"));
        let queues: Vec<_> = queues
            .iter()
            .filter(|queue| queue.starts_with("rx-"))
            .collect();
        // The queues' masks are assumed to be alike, as tools set them: the widest counts.
        let steered = queues
            .iter()
            .filter_map(|queue| source.text(&format!("{root}/queues/{queue}/rps_cpus")))
            .map(|mask| cpus_masked(&mask))
            .max()
            .unwrap_or(0);
        let queue_count = u64::try_from(queues.len()).expect("a few queues");
        let interrupted =
            interrupt_cpus(source, &root).map_or(queue_count, |cpus| cpus.min(queue_count));
        found.push(Interface {
            name,
            queues: queue_count,
            receiving_cpus: steered.max(interrupted).max(1),
        });
    }
    found
}

/// Number of distinct processors that handle the device's interrupts; `None` if they are not shown.
fn interrupt_cpus(source: &impl Source, root: &str) -> Option<u64> {
    // A virtio device's interrupts are those of the PCI device above it.
    let mut interrupts = source.names(&format!("{root}/device/msi_irqs"));
    if interrupts.is_empty() {
        interrupts = source.names(&format!("{root}/device/../msi_irqs"));
    }
    let cpus: std::collections::BTreeSet<_> = interrupts
        .iter()
        .filter_map(|irq| source.text(&format!("/proc/irq/{irq}/effective_affinity_list")))
        .collect();
    (!cpus.is_empty()).then(|| u64::try_from(cpus.len()).expect("a few interrupts"))
}
