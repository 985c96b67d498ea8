//! A child that ends with its parent, however that ends: the hidden command `tether` asks the kernel for it, then
//! becomes the program. Between fork and exec there is no other way without `unsafe`, and brokers would not ask.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The hidden command.
pub(crate) const TETHER: &str = "tether";

/// Becomes `program`, which the kernel kills when the thread that started this process ends. Returns only why not.
pub(crate) fn tether(parent: u32, program: &Path, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() != expected {
        return io::Error::other("its parent has ended meanwhile");
    }
    Command::new(program).args(arguments).exec()
}
