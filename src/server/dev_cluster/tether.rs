//! A child that ends with its parent, however that ends: the hidden command `tether` asks the kernel for it, then
//! becomes the program. Between fork and exec there is no other way without `unsafe`, and brokers would not ask.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, io, thread};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::ports;

/// The hidden command.
pub(crate) const TETHER: &str = "tether";

/// Threads of a Go program that run at a time. Three brokers share this machine, and each would take all its processors and
/// spin on them while it waits: measured on two, this takes a third of their time and of a message's latency away.
const BROKER_THREADS: &str = "GOMAXPROCS";

/// Becomes `program`, which the kernel kills when the thread that started this process ends. Returns only why not.
pub(crate) fn tether(parent: u32, program: &Path, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() != expected {
        return io::Error::other("its parent has ended meanwhile");
    }
    let mut command = Command::new(program);
    if env::var_os(BROKER_THREADS).is_none() {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let share = (processors / usize::from(ports::MEMBERS)).max(1);
        command.env(BROKER_THREADS, share.to_string());
    }
    command.args(arguments).exec()
}
