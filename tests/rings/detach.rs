//! Plain descriptors beside fixed files, and a second shard that takes them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use rustix::io::{FdFlags, fcntl_getfd};
use uproar::net::backend::Backend;
use uproar::net::rings::Rings;

use super::shard::{Shard, TINY, byte, pairs};

/// Goal: a plain descriptor and its fixed file are one connection, and are closed apart. Method: connections in
/// three rings echo; make plain descriptors, close them, and it echoes on; make them again for a second shard, end
/// the first, and it echoes on; from rings to rings, and between rings and epoll.
#[test]
fn a_second_shard_goes_on_with_the_connections() {
    assert!(Rings::can_detach().expect("a probe"), "Linux 6.8");
    let new = go_on(Shard::new(TINY), Shard::new(TINY));
    assert_eq!(new.io.count(), 3);
    go_on(Shard::new(TINY), Shard::epoll());
    go_on(Shard::epoll(), Shard::epoll());
    go_on(Shard::epoll(), Shard::new(TINY));
}

fn go_on<O: Backend, N: Backend>(mut old: Shard<O>, mut new: Shard<N>) -> Shard<N> {
    const CONNECTIONS: usize = 40;
    let mut clients = Vec::new();
    for (key, (ours, theirs)) in (0..).zip(pairs(CONNECTIONS)) {
        old.install(key, ours);
        clients.push(theirs);
    }
    let mut said = 0;
    echo(&mut old, &mut clients, &mut said);
    let mut others = Vec::new();
    let places: Vec<_> = old
        .connections
        .values()
        .map(|one| O::place(&one.file))
        .collect();
    let plain = old.io.detach(&places, &mut others).expect("descriptors");
    for descriptor in &plain {
        assert!(fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
    }
    drop(plain);
    echo(&mut old, &mut clients, &mut said);

    old.cancel();
    old.turns(|shard| shard.receiving() == 0);
    let plain = old.io.detach(&places, &mut others).expect("descriptors");
    assert!(others.is_empty(), "a quiet shard has no other completions");
    for ((key, connection), descriptor) in old.connections.iter_mut().zip(plain) {
        new.install(*key, descriptor);
        let successor = new.connections.get_mut(key).expect("just installed");
        successor.sent = connection.sent;
    }
    drop(old);
    echo(&mut new, &mut clients, &mut said);
    new
}

/// Each client says two bytes more, and hears them.
fn echo<B: Backend>(shard: &mut Shard<B>, clients: &mut [TcpStream], said: &mut usize) {
    shard.echoes = true;
    shard.arm();
    for client in &mut *clients {
        client.write_all(&[byte(*said), byte(*said + 1)]).unwrap();
    }
    *said += 2;
    shard.turns(|shard| shard.connections.values().all(|one| one.sent == *said));
    for client in clients {
        let mut answer = [0; 2];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte(*said - 2), byte(*said - 1)]);
    }
}

/// Goal: without a free descriptor nothing changes. Method: a limit on open files that leaves room for five
/// of twelve.
#[test]
fn a_shard_out_of_descriptors_keeps_its_connections() {
    let mut shard = Shard::new(TINY);
    let mut clients = Vec::new();
    for (key, (ours, theirs)) in (0..).zip(pairs(12)) {
        shard.install(key, ours);
        clients.push(theirs);
    }
    shard.arm();
    let places: Vec<_> = shard
        .connections
        .values()
        .map(|one| one.file.place())
        .collect();
    let before = open_descriptors();
    let mut others = Vec::new();
    let plain = shard.io.detach(&places, &mut others).expect("room for all");
    let number = plain[5].as_raw_fd();
    drop(plain);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let lowered = rustix::process::Rlimit {
        current: Some(u64::try_from(number).unwrap()),
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, lowered).unwrap();
    let refused = shard.io.detach(&places, &mut others);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(24), "EMFILE");
    assert!(others.is_empty(), "nothing was received meanwhile");
    assert_eq!(open_descriptors(), before, "those made before are closed");
    for client in &mut clients {
        client.write_all(b"still here").unwrap();
    }
    shard.turns(|shard| {
        let mut connections = shard.connections.values();
        connections.all(|one| one.received == b"still here")
    });
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
