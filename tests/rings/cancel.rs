//! Receives and waits are cancelled while bytes are on their way.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use uproar::net::backend::Backend;
use uproar::net::io::{Io, SendBuffer};

use super::shard::{Ends, Shard, TINY, byte, pairs};

/// Connections: three of the tiny rings.
const CONNECTIONS: usize = 40;

/// Writes numbered bytes to each client, in pieces of random sizes and at random times, until `done`; returns how
/// many each has got.
fn write(
    mut clients: Vec<std::net::TcpStream>,
    seed: u64,
    done: &AtomicBool,
) -> (Vec<usize>, Vec<std::net::TcpStream>) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut written = vec![0; clients.len()];
    while !done.load(Ordering::Acquire) {
        let at = dice.usize(..clients.len());
        let len = [1, 7, 300, 5_000][dice.usize(..4)];
        let bytes: Vec<u8> = (written[at]..written[at] + len).map(byte).collect();
        clients[at].write_all(&bytes).expect("it is not lost");
        written[at] += len;
        if dice.u8(..) < 16 {
            std::thread::sleep(Duration::from_micros(dice.u64(..200)));
        }
    }
    (written, clients)
}

/// Goal: whenever receives are cancelled, each ends, and no byte is lost or received twice. Method: 40 connections
/// in rings far too small for them, or on epoll; a thread that writes numbered bytes; stop and go on 200 times after
/// random numbers of turns, or more until bytes have moved, some of them right after the receives were armed.
#[test]
fn cancelled_receives_lose_no_byte() {
    let ends = stop_and_go(Shard::new(TINY));
    assert!(ends.no_buffers > 0, "{ends:?}");
    let ends = stop_and_go(Shard::epoll());
    assert_eq!(ends.no_buffers, 0, "it has always a buffer");
}

fn stop_and_go<B: Backend>(mut shard: Shard<B>) -> Ends {
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut clients = Vec::new();
    for (key, (ours, theirs)) in (0..).zip(pairs(CONNECTIONS)) {
        shard.install(key, ours);
        clients.push(theirs);
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || write(clients, seed, &done))
    };
    let (mut moved, mut rounds) = (0, 0);
    // More rounds where the writer was slow to begin.
    while rounds < 200 || moved <= 10_000 {
        assert!(!writer.is_finished(), "seed {seed}: it lost a connection");
        rounds += 1;
        shard.arms = true;
        shard.arm();
        for _ in 0..dice.usize(..20) {
            shard.turn();
        }
        shard.cancel();
        shard.turns(|shard| shard.receiving() == 0);
        let before: usize = shard
            .connections
            .values()
            .map(|one| one.received.len())
            .sum();
        shard.turn();
        let after: usize = shard
            .connections
            .values()
            .map(|one| one.received.len())
            .sum();
        assert_eq!(
            before, after,
            "seed {seed}: nothing is received while quiet"
        );
        moved = after;
    }
    done.store(true, Ordering::Release);
    shard.arms = true;
    shard.arm();
    shard.turns(|_| writer.is_finished());
    let (written, clients) = writer.join().expect("no connection was lost");
    let total: usize = written.iter().sum();
    shard.turns(|shard| {
        let received: usize = shard
            .connections
            .values()
            .map(|one| one.received.len())
            .sum();
        received >= total
    });
    for (connection, written) in shard.connections.values().zip(&written) {
        assert_eq!(connection.received.len(), *written, "seed {seed}");
        let numbered = connection.received.iter().zip((0..).map(byte));
        assert!(
            numbered.clone().all(|(got, sent)| *got == sent),
            "seed {seed}"
        );
    }
    drop(clients);
    assert!(shard.ends.cancelled > 1_000, "{:?}", shard.ends);
    shard.ends
}

/// Goal: a cancel that the kernel takes while no receive is there, because it is restarting it, is repeated. Method:
/// the cancel is submitted before the receive.
#[test]
fn a_cancel_that_finds_nothing_is_repeated() {
    let mut shard = Shard::new(TINY);
    let (ours, _theirs) = pairs(1).next().expect("one");
    shard.install(0, ours);
    shard.connections.get_mut(&0).expect("it").is_receiving = true;
    shard.cancel();
    shard.io.receive(&shard.connections[&0].file, 0);
    shard.turns(|shard| shard.receiving() == 0);
    assert_eq!(shard.ends.cancelled, 1);
    assert_eq!(shard.turn(), 0, "and it is not repeated any more");
    assert!(!shard.io.has_completions());
}

/// Goal: waits for writable sockets end when told to, each with the bytes that were not sent; later waits are not
/// touched. Method: clients that read nothing; then the rests are sent to clients that read.
#[test]
fn cancelled_waits_return_what_was_not_sent() {
    stop_waiting(Shard::new(TINY));
    stop_waiting(Shard::epoll());
}

fn stop_waiting<B: Backend>(mut shard: Shard<B>) {
    const BYTES: usize = 1 << 20;
    let mut clients = Vec::new();
    for (key, (ours, theirs)) in (0..).zip(pairs(20)) {
        sockopt::set_socket_send_buffer_size(&ours, 65_536).unwrap();
        shard.install(key, ours);
        clients.push(theirs);
        let bytes = SendBuffer::owned((0..BYTES).map(byte).collect());
        shard.io.send(&shard.connections[&key].file, key, bytes);
    }
    // All sends are short; then nothing more happens by itself.
    shard.turns(|shard| shard.connections.values().all(|one| one.sent > 0));
    while shard.turn() > 0 {}
    assert!(shard.connections.values().all(|one| one.rest.is_none()));
    shard.io.cancel_waits();
    shard.turns(|shard| shard.connections.values().all(|one| one.rest.is_some()));

    shard.io.cancel_waits();
    for (key, connection) in &mut shard.connections {
        let rest = connection.rest.take().expect("just returned");
        assert_eq!(rest.remaining(), BYTES - connection.sent);
        shard.io.send(&connection.file, *key, rest);
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut got = vec![0; BYTES];
                client.read_exact(&mut got).expect("all bytes");
                assert!(
                    got.iter()
                        .zip((0..).map(byte))
                        .all(|(got, sent)| *got == sent)
                );
            })
        })
        .collect();
    shard.turns(|shard| {
        for (key, connection) in &mut shard.connections {
            if let Some(rest) = connection.rest.take() {
                shard.io.send(&connection.file, *key, rest);
            }
        }
        readers.iter().all(std::thread::JoinHandle::is_finished)
    });
    for reader in readers {
        reader.join().expect("the whole stream");
    }
}
