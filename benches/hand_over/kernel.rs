//! Cancels, descriptors, messages: what the rings and the kernel do, with records of 230 bytes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use uproar::net::io::Io;
use uproar::net::pass::Connection;
use uproar::net::ring::Completion;
use uproar::net::rings::{FixedFile, FixedPlace, Rings};
use uproar::shard::carry::{Leaving, receive_viewers, send_viewers};
use uproar_proto::base::limits::DESCRIPTORS_A_MESSAGE_MAX;

use super::{Best, RUNS, since, spent};

const RECORD: [u8; 230] = [7; 230];
/// A frozen shard.
struct Frozen<'a> {
    rings: &'a mut Rings,
    places: &'a [FixedPlace],
    next: usize,
}

impl Leaving for Frozen<'_> {
    type Place = FixedPlace;

    fn next_page(&mut self, most: usize) -> Vec<(FixedPlace, Vec<u8>)> {
        let page = self.places.iter().skip(self.next).take(most);
        let page: Vec<_> = page.map(|place| (*place, RECORD.to_vec())).collect();
        self.next += page.len();
        page
    }

    fn detach(&mut self, places: &[FixedPlace]) -> io::Result<Vec<OwnedFd>> {
        self.rings.detach(places, &mut Vec::new())
    }
}

/// Arms all receives.
fn arm(rings: &mut Rings, files: &[FixedFile]) {
    for (key, file) in (0..).zip(files) {
        rings.receive(file, key);
    }
    rings.enter().expect("the rings work");
}

/// Cancels all receives and waits for their ends.
fn cancel(rings: &mut Rings, files: &[FixedFile]) {
    for (key, file) in (0..).zip(files) {
        rings.cancel_receive(file, key);
    }
    let mut left = files.len();
    while left > 0 {
        rings.enter().expect("the rings work");
        while let Some(completion) = rings.next_completion() {
            if matches!(completion, Completion::Received { more: false, .. }) {
                left -= 1;
            }
        }
    }
}

/// Sends all viewers to another thread, which installs them; returns the times of both.
fn carry(rings: &mut Rings, places: &[FixedPlace]) -> [Duration; 2] {
    let (here, there) = Connection::pair().expect("descriptors");
    let deadline = Instant::now() + Duration::from_mins(1);
    let receiver = std::thread::spawn(move || {
        let mut rings = Rings::new().expect("io_uring is allowed");
        let mut files = Vec::new();
        let start = spent();
        let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
            for (socket, _) in batch {
                files.push(rings.install(socket)?);
            }
            Ok(())
        };
        receive_viewers(&there, deliver, deadline).expect("no fault");
        since(start)
    });
    let mut frozen = Frozen {
        rings,
        places,
        next: 0,
    };
    let start = spent();
    send_viewers(&mut frozen, &here, DESCRIPTORS_A_MESSAGE_MAX, deadline).expect("no fault");
    [since(start), receiver.join().expect("no panic")]
}

pub(super) fn measure(sockets: Vec<OwnedFd>) {
    let mut rings = Rings::new().expect("io_uring is allowed");
    let installed = sockets.into_iter().map(|socket| rings.install(socket));
    let files: Vec<_> = installed.map(|file| file.expect("a place")).collect();
    let places: Vec<_> = files.iter().map(FixedFile::place).collect();
    let mut best = Best::of([
        "old: receive cancelled, with its last completion",
        "old: plain descriptor made",
        "old: plain descriptor closed",
        "old: all sent, with the two before",
        "new: all received and installed",
        "new: receive armed",
    ]);
    for _ in 0..RUNS {
        arm(&mut rings, &files);
        let start = spent();
        cancel(&mut rings, &files);
        let cancelled = since(start);
        let (mut made, mut closed) = (Duration::ZERO, Duration::ZERO);
        for batch in places.chunks(DESCRIPTORS_A_MESSAGE_MAX) {
            let start = spent();
            let plain = rings.detach(batch, &mut Vec::new()).expect("descriptors");
            made += since(start);
            let start = spent();
            drop(plain);
            closed += since(start);
        }
        let [sent, received] = carry(&mut rings, &places);
        let start = spent();
        arm(&mut rings, &files);
        let armed = since(start);
        cancel(&mut rings, &files);
        best.note([cancelled, made, closed, sent, received, armed]);
    }
    best.print(files.len());
}
