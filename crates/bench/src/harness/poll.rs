//! Waiting for many sockets at once: an epoll set.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Sockets that are waited for, each under a key of its owner's choice.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Adds a socket, which is reported as long as it has bytes to read. Closing it removes it.
    pub(crate) fn add(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
        self.add_with(socket, key, epoll::EventFlags::IN)
    }

    /// Adds a socket, which is reported once each time it becomes readable or writable: one
    /// registration serves connecting, writing and reading.
    pub(crate) fn add_edges(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        self.add_with(socket, key, flags)
    }

    fn add_with(&self, socket: impl AsFd, key: usize, flags: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(&self.epoll, socket, data, flags)?)
    }

    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until a socket is ready, at most for `wait`. Returns the keys of up to `COUNT` ready
    /// sockets; none after a signal.
    pub(crate) fn wait<const COUNT: usize>(
        &self,
        wait: Duration,
    ) -> io::Result<std::iter::Take<std::array::IntoIter<usize, COUNT>>> {
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut events = [const { MaybeUninit::uninit() }; COUNT];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => &mut [],
            Err(error) => return Err(error.into()),
        };
        let mut keys = [0; COUNT];
        for (key, event) in keys.iter_mut().zip(&*ready) {
            *key = usize::try_from(event.data.u64()).expect("64 bits");
        }
        Ok(keys.into_iter().take(ready.len()))
    }
}

/// The key of receiver number `index` of room number `room`.
pub(crate) fn key_of(room: usize, index: usize) -> usize {
    debug_assert!(room >> 32 == 0 && index >> 32 == 0, "both fit into 32 bits");
    room << 32 | index
}

/// Room and index of a key that [`key_of`] made.
pub(crate) fn of_key(key: usize) -> (usize, usize) {
    (key >> 32, key & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Goal: a socket is reported under its key while bytes wait in it, and not once they are read
    /// or it is removed.
    #[test]
    fn sockets_are_reported_while_bytes_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let poll = Poll::new().expect("epoll");
        let key = key_of(7, 3);
        poll.add(&client, key).expect("a socket");
        let ready = |wait| -> Vec<usize> { poll.wait::<4>(wait).expect("epoll").collect() };
        assert!(ready(Duration::ZERO).is_empty());
        server.write_all(b"x").expect("loopback");
        // Loopback hands bytes over within the write.
        assert_eq!(ready(Duration::from_secs(10)), [key]);
        assert_eq!(ready(Duration::ZERO), [key]);
        assert_eq!(of_key(key), (7, 3));
        client.read_exact(&mut [0]).expect("a byte");
        assert!(ready(Duration::ZERO).is_empty());
        server.write_all(b"x").expect("loopback");
        poll.remove(&client).expect("was added");
        assert!(ready(Duration::ZERO).is_empty());
    }
}
