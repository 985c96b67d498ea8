//! Made-up machines: the facts read of them, and their findings.
#![allow(clippy::unwrap_used, reason = "a test may stop at its first surprise")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::facts::{Facts, Interface, Limit, Source, UNLIMITED};
use super::files::{LIMITS, SYSCTL, files};
use super::{Finding, Remedy, Target, Verdict, at_start, examine, worst};
use crate::net::backend::Kind;

/// Files by path.
#[derive(Debug, Clone, Default)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.to_owned(), text.to_owned());
        self
    }
}

impl Source for Tree {
    fn text(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let below = format!("{path}/");
        let rests = self.0.keys().filter_map(|key| key.strip_prefix(&below));
        let mut names: Vec<_> = rests
            .map(|rest| rest.split('/').next().unwrap().to_owned())
            .collect();
        names.dedup();
        names
    }
}

/// A machine with a distribution's defaults, four processors and 16 GB.
fn stock() -> Tree {
    Tree::default()
        .with("/proc/sys/kernel/osrelease", "6.12.9-amd64\n")
        .with("/proc/sys/kernel/io_uring_disabled", "0\n")
        .with("/proc/sys/kernel/io_uring_group", "-1\n")
        .with("/proc/sys/fs/nr_open", "1048576\n")
        .with("/proc/sys/fs/file-max", "9223372036854775807\n")
        .with("/proc/sys/fs/file-nr", "1500\t0\t9223372036854775807\n")
        .with("/proc/sys/net/core/somaxconn", "4096\n")
        .with("/proc/sys/net/ipv4/tcp_syncookies", "1\n")
        .with("/proc/sys/net/ipv4/tcp_max_orphans", "65536\n")
        .with("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
        .with("/proc/sys/net/ipv4/tcp_mem", "190000\t253000\t380000\n")
        .with("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n")
        .with("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
        .with("/proc/sys/net/netfilter/nf_conntrack_max", "262144\n")
        .with(
            "/proc/meminfo",
            "MemTotal: 16384000 kB\nMemAvailable:   15000000 kB\n",
        )
        .with(
            "/proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 524288               files     \n\
             Max locked memory         8388608              unlimited            bytes     \n",
        )
        .with(
            "/proc/self/status",
            "Name:\tuproar\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,7\n",
        )
        .with("/proc/self/cgroup", "0::/system.slice/uproar.service\n")
        .with("/sys/fs/cgroup/system.slice/memory.max", "8589934592\n")
        .with(
            "/sys/fs/cgroup/system.slice/uproar.service/memory.max",
            "max\n",
        )
        .with(
            "/sys/fs/cgroup/system.slice/uproar.service/pids.max",
            "18000\n",
        )
        .with(
            "/sys/fs/cgroup/system.slice/uproar.service/cpu.max",
            "250000 100000\n",
        )
        .with(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        )
        .with("/sys/class/net/lo/operstate", "unknown\n")
        .with("/sys/class/net/eth0/operstate", "up\n")
        .with("/sys/class/net/eth0/device/vendor", "0x1af4\n")
        .with("/sys/class/net/eth0/device/msi_irqs/40", "msix\n")
        .with("/sys/class/net/eth0/device/msi_irqs/41", "msix\n")
        .with("/proc/irq/40/effective_affinity_list", "0\n")
        .with("/proc/irq/41/effective_affinity_list", "2\n")
        .with("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n")
        .with("/sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n")
        .with("/sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n")
}

fn target(connections: u64, shards: u64) -> Target {
    Target {
        connections,
        shards,
        io: Kind::IoUring,
        opens: false,
    }
}

/// Goal: with epoll nothing is asked of io_uring, each viewer takes a descriptor and a watch, and the remedies suffice.
#[test]
fn epoll_needs_descriptors_and_watches_instead_of_rings() {
    let mut facts = Facts::read(&stock(), "self");
    facts.ring = Some(Err("Operation not permitted".to_owned()));
    let crowd = Target {
        io: Kind::Epoll,
        ..target(100_000, 2)
    };
    let findings = examine(&facts, &crowd);
    assert!(
        !findings
            .iter()
            .any(|finding| finding.check.contains("io_uring "))
    );
    let said = of(&findings, "server.io");
    assert!(said.found.contains("not permitted"), "{said:?}");
    let needed = crowd.descriptors();
    assert!(needed > 100_000 && crowd.connections_of_descriptors(needed) >= 100_000);
    assert!(crowd.connections_of_descriptors(needed - 1) < 100_000);
    assert!(target(100_000, 2).descriptors() < 3_000, "rings need few");
    facts.epoll_watches = Some(50_000);
    let findings = examine(&facts, &crowd);
    let watches = of(&findings, "fs.epoll.max_user_watches");
    assert_eq!(watches.verdict, Verdict::Change);
    assert_eq!(watches.connections_max, Some(50_000 - 544));
}

fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap()
}

fn changes(findings: &[Finding]) -> Vec<&str> {
    let changed = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Change);
    changed.map(|finding| &*finding.check).collect()
}

/// Applies the remedies, as `sysctl` and systemd would.
fn apply(facts: &mut Facts, findings: &[Finding]) {
    for remedy in findings
        .iter()
        .filter_map(|finding| finding.remedy.as_ref())
    {
        let (name, value) = match remedy {
            Remedy::Sysctl { key, value } => (*key, value),
            Remedy::Unit { directive, value } => (*directive, value),
        };
        let numbers: Vec<u64> = value
            .split_whitespace()
            .map(|word| match word.trim_end_matches('%') {
                "infinity" => UNLIMITED,
                word => word.parse().unwrap(),
            })
            .collect();
        let one = numbers.first().copied();
        let limit = one.map(|bound| Limit {
            soft: bound,
            hard: bound,
        });
        match name {
            "LimitNOFILE" => facts.nofile = limit,
            "LimitMEMLOCK" => facts.memlock = limit,
            "MemoryMax" => facts.group_memory = one,
            "TasksMax" => facts.group_pids = one,
            "CPUQuota" => facts.group_cpu = one,
            "kernel.io_uring_disabled" => facts.uring_disabled = one,
            "fs.nr_open" => facts.nr_open = one,
            "fs.file-max" => facts.file_max = one,
            "fs.epoll.max_user_watches" => facts.epoll_watches = one,
            "net.core.somaxconn" => facts.somaxconn = one,
            "net.ipv4.tcp_syncookies" => facts.syncookies = one,
            "net.ipv4.tcp_max_orphans" => facts.max_orphans = one,
            "net.netfilter.nf_conntrack_max" => facts.conntrack = one,
            "net.ipv4.ip_local_port_range" => facts.ports = Some(numbers.try_into().unwrap()),
            "net.ipv4.tcp_mem" => facts.tcp_mem = Some(numbers.try_into().unwrap()),
            "net.ipv4.tcp_wmem" => facts.tcp_wmem = Some(numbers.try_into().unwrap()),
            "net.ipv4.tcp_rmem" => facts.tcp_rmem = Some(numbers.try_into().unwrap()),
            other => panic!("an unknown remedy: {other}"),
        }
    }
}

#[test]
fn a_machine_is_read() {
    let facts = Facts::read(&stock(), "self");
    assert_eq!(
        facts.nofile,
        Some(Limit {
            soft: 1024,
            hard: 524_288
        })
    );
    assert_eq!(
        facts.memlock,
        Some(Limit {
            soft: 8_388_608,
            hard: UNLIMITED
        })
    );
    assert_eq!(facts.files_open, Some(1500));
    assert_eq!(facts.tcp_mem, Some([190_000, 253_000, 380_000]));
    assert_eq!(facts.memory, Some(15_360_000_000));
    assert_eq!(facts.cpus, Some(4));
    // The smallest bound on the path to the root, at any level.
    assert_eq!(facts.group_memory, Some(8_589_934_592));
    assert_eq!(facts.group_pids, Some(18_000));
    assert_eq!(facts.group_cpu, Some(250));
    assert_eq!(facts.huge_pages.as_deref(), Some("madvise"));
    let eth0 = Interface {
        name: "eth0".to_owned(),
        queues: 2,
        receiving_cpus: 2,
    };
    assert_eq!(facts.interfaces, [eth0]);
}

#[test]
fn rps_counts_where_interrupts_do_not_spread() {
    let tree = stock()
        .with("/proc/irq/41/effective_affinity_list", "0\n")
        .with(
            "/sys/class/net/eth0/queues/rx-0/rps_cpus",
            "00000001,0000000e\n",
        );
    assert_eq!(Facts::read(&tree, "self").interfaces[0].receiving_cpus, 4);
    let tree = tree.with("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n");
    let facts = Facts::read(&tree, "self");
    assert_eq!(facts.interfaces[0].receiving_cpus, 1);
    let findings = examine(&facts, &target(50_000, 2));
    let finding = of(&findings, "eth0 receives on");
    assert_eq!(finding.verdict, Verdict::Change);
    assert!(
        finding.reason.contains("echo f | tee"),
        "{}",
        finding.reason
    );
    assert!(changes(&examine(&facts, &target(25_000, 2))).is_empty());
}

#[test]
fn a_stock_machine_carries_ten_thousand_and_not_a_million() {
    let facts = Facts::read(&stock(), "self");
    let findings = examine(&facts, &target(10_000, 2));
    assert!(changes(&findings).is_empty(), "{findings:#?}");
    assert!(files(&findings, &target(10_000, 2)).is_empty());

    let million = target(1_000_000, 4);
    let findings = examine(&facts, &million);
    let expected = [
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_mem",
        "net.netfilter.nf_conntrack_max",
        "cgroup memory.max",
        "cgroup cpu.max",
        "eth0 receives on",
    ];
    assert_eq!(changes(&findings), expected);
    assert_eq!(
        worst(&findings).unwrap().check,
        "net.netfilter.nf_conntrack_max"
    );
    assert_eq!(worst(&findings).unwrap().connections_max, Some(131_072));
    // A load generator needs a descriptor for each connection: 512 and 16 for each shard are reserved.
    let opening = Target {
        opens: true,
        ..million
    };
    let nofile = Remedy::Unit {
        directive: "LimitNOFILE",
        value: (1_000_000 + 512 + 4 * 16_u64).to_string(),
    };
    let findings = examine(&facts, &opening);
    assert_eq!(of(&findings, "open files").remedy, Some(nofile));
}

#[test]
fn files_hold_what_must_change_and_why() {
    let million = target(1_000_000, 2);
    let findings = examine(&Facts::read(&stock(), "self"), &million);
    let files = files(&findings, &million);
    assert_eq!(
        files.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        [SYSCTL, LIMITS]
    );
    let mut settings = 0;
    for (name, text) in &files {
        assert_eq!(text.contains("[Service]"), *name == LIMITS);
        let lines: Vec<_> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if line.contains('=') && !line.starts_with('#') {
                settings += 1;
                assert!(
                    lines[index - 1].starts_with("# (found: "),
                    "{line} has no reason"
                );
            }
        }
    }
    let remedies = findings
        .iter()
        .filter(|finding| finding.remedy.is_some())
        .count();
    assert_eq!(settings, remedies);
}

#[test]
fn a_switched_off_ring_comes_before_everything() {
    let verdict = |disabled: &str, group: &str| {
        let tree = stock()
            .with("/proc/sys/kernel/io_uring_disabled", disabled)
            .with("/proc/sys/kernel/io_uring_group", group);
        let findings = examine(&Facts::read(&tree, "self"), &target(1_000_000, 2));
        let of_switch = of(&findings, "io_uring allowed").verdict;
        (of_switch, worst(&findings).unwrap().check.clone())
    };
    assert_eq!(
        verdict("2", "-1"),
        (Verdict::Change, "io_uring allowed".to_owned())
    );
    assert_eq!(verdict("1", "-1").0, Verdict::Change);
    assert_eq!(verdict("1", "997").0, Verdict::Unknown);
    assert_eq!(verdict("0", "-1").0, Verdict::Ok);
}

#[test]
fn a_trial_ring_is_judged() {
    let mut facts = Facts::read(&stock(), "self");
    let mut judge = |ring| {
        facts.ring = ring;
        of(&examine(&facts, &target(1, 1)), "io_uring ring").verdict
    };
    assert_eq!(judge(None), Verdict::Unknown);
    assert_eq!(judge(Some(Ok(Vec::new()))), Verdict::Ok);
    assert_eq!(judge(Some(Ok(vec!["send"]))), Verdict::Change);
    assert_eq!(judge(Some(Err("forbidden".to_owned()))), Verdict::Change);
}

#[test]
fn old_kernels_are_refused_and_old_groups_not_guessed_at() {
    for (release, verdict) in [
        ("6.1.0-18-amd64", Verdict::Ok),
        ("10.0", Verdict::Ok),
        ("6.0.19", Verdict::Change),
        ("5.15.0", Verdict::Change),
        ("something", Verdict::Unknown),
    ] {
        let tree = stock().with("/proc/sys/kernel/osrelease", release);
        let findings = examine(&Facts::read(&tree, "self"), &target(1, 1));
        assert_eq!(of(&findings, "kernel").verdict, verdict, "{release}");
    }
    let tree = stock().with("/proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/\n0::/\n");
    let facts = Facts::read(&tree, "self");
    assert_eq!((facts.group_memory, facts.group_cpu), (None, None));
    assert_eq!(facts.group_pids, Some(UNLIMITED));
}

#[test]
fn locked_memory_counts_from_the_kernel_that_charges_it() {
    let verdict = |release: &str| {
        let tree = stock().with("/proc/sys/kernel/osrelease", release);
        let findings = examine(&Facts::read(&tree, "self"), &target(1, 64));
        of(&findings, "locked memory").verdict
    };
    assert_eq!(verdict("6.13.4"), Verdict::Ok);
    assert_eq!(verdict("6.14.0"), Verdict::Change);
}

#[test]
fn ports_matter_to_those_who_open_connections() {
    let facts = Facts::read(&stock(), "self");
    let judge = |opens| {
        let target = Target {
            opens,
            ..target(50_000, 2)
        };
        let findings = examine(&facts, &target);
        of(&findings, "net.ipv4.ip_local_port_range").verdict
    };
    assert_eq!((judge(false), judge(true)), (Verdict::Ok, Verdict::Change));
}

#[test]
fn a_start_speaks_only_of_what_it_does_not_refuse_itself() {
    assert!(at_start(&stock(), 50_000, 2, Kind::IoUring).is_none());
    let finding = at_start(&stock(), 200_000, 2, Kind::IoUring).unwrap();
    assert_eq!(finding.check, "net.netfilter.nf_conntrack_max");
    // A tracking table for 600 connections suffices.
    let few = "Max open files            600                  600                  files\n";
    assert!(
        at_start(
            &stock().with("/proc/self/limits", few),
            200_000,
            2,
            Kind::IoUring
        )
        .is_none()
    );
}

#[test]
fn an_unreadable_machine_is_unknown_and_nothing_to_change() {
    let findings = examine(
        &Facts::read(&Tree::default(), "self"),
        &target(1_000_000, 2),
    );
    assert!(changes(&findings).is_empty(), "{:?}", changes(&findings));
    let unknown = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Unknown);
    assert!(unknown.count() > 10);
}

/// Found by the property below: absurd counts must not turn "unlimited" into "no connections".
#[test]
fn unlimited_leaves_everything() {
    let huge = "18446744073709551615";
    let tree = stock()
        .with("/proc/sys/fs/file-max", huge)
        .with("/proc/sys/fs/file-nr", &format!("{huge}\t0\t{huge}\n"));
    let findings = examine(&Facts::read(&tree, "self"), &target(1, 1));
    let finding = of(&findings, "fs.file-max");
    assert_eq!(finding.connections_max, Some(UNLIMITED));
    assert_eq!(finding.verdict, Verdict::Ok);
}

fn figure() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(UNLIMITED)),
        6 => (0_u64..5_000_000_000_000).prop_map(Some),
        6 => (0_u64..5_000_000).prop_map(Some),
    ]
}

prop_compose! {
    fn machine()(
        figures in proptest::collection::vec(figure(), 18),
        release in prop_oneof![Just("6.1.9"), Just("6.18.0"), Just("5.10.1"), Just("odd")],
        disabled in prop::option::of(0_u64..4),
        receiving_cpus in 1_u64..64,
    ) -> Facts {
        let limit = |index: usize| figures[index].map(|bound| Limit { soft: bound, hard: bound });
        let three = |index: usize| figures[index].map(|figure| [figure, figure, figure]);
        Facts {
            release: Some(release.to_owned()),
            uring_disabled: disabled,
            nofile: limit(0),
            memlock: limit(1),
            nr_open: figures[2],
            file_max: figures[3],
            files_open: figures[4],
            somaxconn: figures[5],
            ports: figures[6].map(|figure| [1024, figure]),
            tcp_mem: three(7),
            tcp_wmem: three(8),
            tcp_rmem: three(9),
            conntrack: figures[10],
            memory: figures[11],
            group_memory: figures[12],
            group_pids: figures[13],
            group_cpu: figures[14],
            cpus: figures[15],
            epoll_watches: figures[8],
            syncookies: figures[16],
            max_orphans: figures[17],
            interfaces: vec![Interface { name: "eth0".to_owned(), queues: 1, receiving_cpus }],
            ..Facts::default()
        }
    }
}

prop_compose! {
    fn aim()(
        connections in prop_oneof![1_u64..2_000, 1_u64..=1_000_000_000],
        shards in 1_u64..=1024,
        (io, opens) in prop_oneof![
            Just((Kind::IoUring, false)),
            Just((Kind::IoUring, true)),
            Just((Kind::Epoll, false)),
        ],
    ) -> Target {
        Target { connections, shards, io, opens }
    }
}

proptest! {
    /// A machine that applies the files has nothing left to change.
    #[test]
    fn remedies_cure(mut facts in machine(), target in aim()) {
        let before = examine(&facts, &target);
        apply(&mut facts, &before);
        for (before, after) in before.iter().zip(examine(&facts, &target)) {
            if before.remedy.is_some() {
                prop_assert_eq!(after.verdict, Verdict::Ok, "{} after {:?}", after.check, before.remedy);
            }
        }
    }

    /// A number "allows N connections" agrees with the verdict, to the page.
    #[test]
    fn what_is_allowed_agrees_with_the_verdict(facts in machine(), target in aim()) {
        for finding in examine(&facts, &target) {
            if let Some(most) = finding.connections_max {
                match finding.verdict {
                    Verdict::Change => prop_assert!(most < target.connections, "{finding:?}"),
                    _ => prop_assert!(most >= target.connections, "{finding:?}"),
                }
            }
            prop_assert!(finding.remedy.is_none() || finding.verdict == Verdict::Change);
            prop_assert!(!finding.reason.contains('\n'));
        }
    }

    /// A machine that carries many carries fewer. Floors are left out: they are shares of `tcp_mem`, which is fixed.
    #[test]
    fn fewer_connections_need_no_more(facts in machine(), target in aim(), part in 0.0_f64..1.0) {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss,
            reason = "any smaller number will do")]
        let connections = ((target.connections as f64 * part) as u64).max(1);
        let fewer = Target { connections, ..target };
        for (many, few) in examine(&facts, &target).iter().zip(examine(&facts, &fewer)) {
            if many.verdict == Verdict::Ok && !many.check.ends_with("mem") {
                prop_assert_eq!(few.verdict, Verdict::Ok, "{}", few.check);
            }
        }
    }

    /// Any file content is parsed or ignored.
    #[test]
    fn any_text_is_read_or_left(texts in proptest::collection::vec("[-0-9a-z:/,. \t\n\\[\\]]{0,40}|\\PC{0,40}", 40)) {
        let mut tree = stock();
        for (text, junk) in tree.0.values_mut().zip(&texts) {
            text.clone_from(junk);
        }
        let facts = Facts::read(&tree, "self");
        prop_assert!(examine(&facts, &target(1_000, 2)).len() >= 20);
    }
}
