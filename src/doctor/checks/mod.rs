//! Compares facts with requirements.

mod descriptors;
mod kernel;
mod machine;
mod network;

use super::facts::Facts;
use super::finding::Finding;
use super::need::Target;
use crate::net::backend::Kind;

/// Findings that a server's start reports by itself.
pub(super) const REPORTED_AT_START: [&str; 4] = [
    kernel::KERNEL,
    kernel::URING,
    kernel::RING,
    descriptors::NOFILE,
];

/// Checks everything, in reading order.
pub(crate) fn examine(facts: &Facts, target: &Target) -> Vec<Finding> {
    let mut findings = match target.io {
        Kind::IoUring => vec![
            kernel::kernel(facts),
            kernel::uring(facts),
            kernel::ring(facts),
            descriptors::locked_memory(facts, target),
        ],
        Kind::Epoll => vec![
            kernel::epoll(facts),
            descriptors::epoll_watches(facts, target),
        ],
    };
    findings.extend([
        descriptors::open_files(facts, target),
        descriptors::soft_limit(facts, target),
        descriptors::nr_open(facts, target),
        descriptors::file_max(facts, target),
        network::somaxconn(facts),
        network::syncookies(facts),
        network::max_orphans(facts, target),
        network::ports(facts, target),
        network::tcp_mem(facts, target),
        network::floor("net.ipv4.tcp_wmem", facts.tcp_wmem, facts, target),
        network::floor("net.ipv4.tcp_rmem", facts.tcp_rmem, facts, target),
        network::conntrack(facts, target),
        machine::memory(facts, target),
        machine::group_memory(facts, target),
        machine::group_pids(facts, target),
        machine::group_cpu(facts, target),
        kernel::huge_pages(facts),
        machine::processors(facts, target),
    ]);
    let of_interface = |interface| network::receiving(interface, facts.cpus, target);
    findings.extend(facts.interfaces.iter().map(of_interface));
    findings
}
