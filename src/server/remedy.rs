//! What an operator changes after a failed start.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The change after which an address can be bound.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's errors, an open set"
)]
pub(super) fn bind_remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "Another process has the port: find it with `ss -ltnp`, or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port, or grant it"
        }
        io::ErrorKind::AddrNotAvailable => "No interface of this machine has the address",
        _ => "Choose another address",
    }
}

/// The change after which a data directory can be used.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's errors, an open set"
)]
pub(super) fn directory_remedy(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!("Let user {user} write there, or choose another with --data-dir")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Make room there, or choose another with --data-dir".to_owned()
        }
        _ => "Choose a directory on a local file system with --data-dir".to_owned(),
    }
}

/// The change after which the kernel grants a ring.
pub(crate) fn ring_remedy(cause: &io::Error) -> String {
    match Errno::from_io_error(cause) {
        Some(Errno::NOMEM) => format!(
            "The limit on locked memory is {}, or the control group's memory is used up: raise them, as \
             with LimitMEMLOCK=infinity (`ulimit -l`) and MemoryMax= in the unit",
            getrlimit(Resource::Memlock)
                .current
                .map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes")),
        ),
        Some(Errno::MFILE) => {
            "Too few descriptors: raise LimitNOFILE= in the unit (`ulimit -n`)".to_owned()
        }
        Some(Errno::INVAL) => {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            format!(
                "This kernel is {}; Linux 6.1 or later is needed",
                release.trim()
            )
        }
        _ => {
            let disabled = fs::read_to_string(IO_URING_DISABLED).unwrap_or_default();
            match disabled.trim() {
                "2" => "It is switched off for everybody: `sysctl kernel.io_uring_disabled=0`".to_owned(),
                "1" => "It is switched off for most (kernel.io_uring_disabled is 1): set it to 0, or \
                        kernel.io_uring_group to a group of this user"
                    .to_owned(),
                _ => "A seccomp filter forbids it, as containers do by default: allow io_uring_setup, \
                      io_uring_enter and io_uring_register (Docker: --security-opt seccomp=PROFILE; \
                      systemd: SystemCallFilter=). Or the kernel was built without it, or is older than 6.1"
                    .to_owned(),
            }
        }
    }
}

const IO_URING_DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
