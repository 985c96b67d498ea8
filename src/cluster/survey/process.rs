//! Which process of this machine listens on a port, as the kernel's tables tell.

use std::fs;
use std::path::Path;

/// State of a listening socket in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// The process; `None`: none, or it is another user's.
pub(super) fn listening_on(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inode = tables
        .iter()
        .flatten()
        .find_map(|table| listener(table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|process| holds(&process.path(), &socket))
        .find_map(|process| process.file_name().to_str()?.parse().ok())
}

/// The inode of the socket that listens on `port`.
fn listener(table: &str, port: u16) -> Option<u64> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTENS;
        found.then(|| fields.get(9)?.parse().ok())?
    })
}

fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let mut links = descriptors
        .flatten()
        .map(|descriptor| fs::read_link(descriptor.path()));
    links.any(|link| link.is_ok_and(|link| link.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Goal: the process that listens is found; when it does not listen any more, none is.
    #[test]
    fn the_listening_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(listening_on(port), Some(std::process::id()));
        drop(listener);
        assert_eq!(listening_on(port), None);
    }
}
