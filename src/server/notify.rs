//! What the service manager is told: sd_notify(3) without its library.
//!
//! One datagram for each message. A message that nobody may miss waits for room in the manager's queue, at most
//! [`NOTIFY_WAIT_MAX`]; one that is repeated anyway does not. Without `NOTIFY_SOCKET` nothing happens.

use std::borrow::Cow;
use std::env::{self, VarError};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};

use crate::clock;
use uproar_proto::base::limits::NOTIFY_WAIT_MAX;

/// Variables that a child must not inherit: they are for this process alone.
pub(crate) const OF_THIS_PROCESS: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Whether a service manager has started this process, or the one before it, and listens.
pub(crate) fn has_manager() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

/// The service manager, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notifier(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    // How often it wants to hear that the server lives.
    watchdog: Option<Duration>,
    // Whether it was told that the service is started.
    is_told: AtomicBool,
}

/// What happens while the manager's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The message waits for room.
    ForRoom,
    /// The message is dropped: another will follow.
    Never,
}

impl Notifier {
    /// The manager that the environment names.
    pub(super) fn of_environment() -> Self {
        let Ok(path) = env::var("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let number = |name| env::var(name).map(|value| value.parse::<u64>().ok());
        let pid = number("WATCHDOG_PID");
        let ours = pid == Err(VarError::NotPresent) || pid == Ok(Some(std::process::id().into()));
        let interval = number("WATCHDOG_USEC").ok().flatten();
        let interval = interval.filter(|micros| ours && *micros > 0);
        Self::of(&path, interval.map(Duration::from_micros)).unwrap_or_else(|error| {
            tracing::warn!(path, %error, "NOTIFY_SOCKET cannot be used: the service manager is told nothing");
            Self::default()
        })
    }

    /// The manager that listens at `path`, which begins with `@` if it is no file's.
    fn of(path: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None => SocketAddrUnix::new(path)?,
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(NOTIFY_WAIT_MAX))?;
        Ok(Self(Some(Arc::new(Manager {
            socket,
            address,
            watchdog,
            is_told: AtomicBool::new(false),
        }))))
    }

    /// Whether there is a manager.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Viewers can connect: the start is over.
    pub(super) fn ready(&self) {
        if let Some(manager) = &self.0 {
            manager.is_told.store(true, Ordering::Relaxed);
        }
        self.send("READY=1", Wait::ForRoom);
    }

    fn is_told(&self) -> bool {
        let manager = self.0.as_ref();
        manager.is_some_and(|manager| manager.is_told.load(Ordering::Relaxed))
    }

    /// One line for people, shown by `systemctl status`.
    pub(super) fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", one_line(line)), Wait::Never);
    }

    /// The reload is over. A start is not over by it.
    pub(super) fn reloaded(&self) {
        if self.is_told() {
            self.ready();
        }
    }

    /// A reload has begun; [`Notifier::reloaded`] ends it. During a start the manager is told nothing.
    pub(super) fn reloading(&self) {
        if !self.is_told() {
            return;
        }
        let now = clock::monotonic_micros();
        let message = format!("RELOADING=1\nMONOTONIC_USEC={now}");
        self.send(&message, Wait::ForRoom);
    }

    /// The server has begun to stop.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1", Wait::ForRoom);
    }

    /// The start or stop in progress may take this long from now on.
    pub(super) fn extend_timeout(&self, by: Duration) {
        let message = format!("EXTEND_TIMEOUT_USEC={}", by.as_micros());
        self.send(&message, Wait::ForRoom);
    }

    /// From now on `process` is the service's main one.
    pub(super) fn main_pid(&self, process: u32) {
        self.send(&format!("MAINPID={process}"), Wait::ForRoom);
    }

    /// Every thread lives.
    pub(super) fn watchdog(&self) {
        self.send("WATCHDOG=1", Wait::Never);
    }

    /// How often [`Notifier::watchdog`] is due: twice in the time after which the manager kills the server.
    pub(super) fn watchdog_interval(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog.map(|patience| patience / 2)
    }

    /// Asks the manager to keep a listening socket under `name` and to pass it to the next process of the service,
    /// whatever becomes of this one.
    pub(super) fn store(&self, name: &str, socket: BorrowedFd<'_>) {
        // Without FDPOLL=0 it would be dropped when it reports an error or a hang-up.
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.send_with(&message, &[socket], Wait::ForRoom);
    }

    /// Asks the manager to close what it keeps under `name`.
    pub(super) fn remove(&self, name: &str) {
        let message = format!("FDSTOREREMOVE=1\nFDNAME={name}");
        self.send(&message, Wait::ForRoom);
    }

    fn send(&self, message: &str, wait: Wait) {
        self.send_with(message, &[], wait);
    }

    fn send_with(&self, message: &str, sockets: &[BorrowedFd<'_>], wait: Wait) {
        let Some(manager) = &self.0 else { return };
        match (manager.send(message, sockets, wait), wait) {
            (Ok(()), _) | (Err(_), Wait::Never) => {}
            (Err(error), Wait::ForRoom) => {
                let message = message.replace('\n', " ");
                tracing::warn!(%error, message, "the service manager was not told");
            }
        }
    }
}

impl Manager {
    fn send(&self, message: &str, sockets: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("one socket in each message"));
        }
        let flags = match wait {
            Wait::ForRoom => SendFlags::NOSIGNAL,
            Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        let (socket, content) = (self.socket.as_fd(), [IoSlice::new(message.as_bytes())]);
        sendmsg_addr(socket, &self.address, &content, &mut control, flags)?;
        Ok(())
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains('\n') {
        return text.replace('\n', " ").into();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..len].to_vec()).expect("text")
    }

    /// Goal: the manager gets the assignments of sd_notify(3), at a path and at an abstract name.
    #[test]
    fn messages_are_those_of_sd_notify() {
        let abstract_name = format!("@uproar-notify-{}", std::process::id());
        let path = env::temp_dir().join(&abstract_name[1..]);
        let _left_by_another = std::fs::remove_file(&path);
        let name = SocketAddr::from_abstract_name(&abstract_name[1..]).expect("short");
        let managers = [
            (
                path.to_str().expect("text"),
                UnixDatagram::bind(&path).expect("free"),
            ),
            (
                abstract_name.as_str(),
                UnixDatagram::bind_addr(&name).expect("free"),
            ),
        ];
        for (at, manager) in &managers {
            let patience = Duration::from_secs(10);
            manager.set_read_timeout(Some(patience)).expect("a socket");
            let notifier = Notifier::of(at, Some(patience)).expect("it listens");
            assert_eq!(notifier.watchdog_interval(), Some(patience / 2));
            // During a start nothing is said of a reload.
            notifier.reloading();
            notifier.reloaded();
            notifier.ready();
            assert_eq!(received(manager), "READY=1");
            let before = clock::monotonic_micros();
            notifier.reloading();
            let message = received(manager);
            let stamp = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            let stamp: u64 = stamp.expect(&message).parse().expect("a number");
            assert!((before..=clock::monotonic_micros()).contains(&stamp));
            let calls: [(&dyn Fn(), &str); 8] = [
                (&|| notifier.reloaded(), "READY=1"),
                (
                    &|| notifier.status("1 viewer\nREADY=1"),
                    "STATUS=1 viewer READY=1",
                ),
                (&|| notifier.stopping(), "STOPPING=1"),
                (
                    &|| notifier.extend_timeout(patience),
                    "EXTEND_TIMEOUT_USEC=10000000",
                ),
                (&|| notifier.main_pid(7), "MAINPID=7"),
                (&|| notifier.watchdog(), "WATCHDOG=1"),
                (
                    &|| notifier.store("control", manager.as_fd()),
                    "FDSTORE=1\nFDNAME=control\nFDPOLL=0",
                ),
                (
                    &|| notifier.remove("control"),
                    "FDSTOREREMOVE=1\nFDNAME=control",
                ),
            ];
            for (call, message) in calls {
                call();
                assert_eq!(received(manager), message);
            }
        }
        std::fs::remove_file(&path).expect("bound");
    }

    /// Goal: a manager that reads nothing delays no message that is repeated anyway. Method: fill its queue, and go
    /// on; without `Wait::Never` each message would take [`NOTIFY_WAIT_MAX`], and the loop half an hour.
    #[test]
    fn signs_of_life_do_not_wait() {
        let name = format!("@uproar-full-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name[1..]).expect("short");
        let _unread = UnixDatagram::bind_addr(&address).expect("free");
        let notifier = Notifier::of(&name, None).expect("it listens");
        for _ in 0..400 {
            notifier.watchdog();
            notifier.status("0 viewers");
        }
        assert_eq!(notifier.watchdog_interval(), None);
    }
}
