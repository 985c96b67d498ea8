use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::wire::Message;
use super::*;
use crate::net::io::Io;
use crate::net::pass::Connection;
use crate::net::ring::Sizes;
use crate::net::rings::{FixedPlace, Rings};
use uproar_proto::base::limits::{CARRIED_BATCH_BYTES_MAX, PASSED_BYTES_MAX};

/// Leaving that are one socket all together.
struct Fake {
    records: Vec<Vec<u8>>,
    next: usize,
    place: FixedPlace,
    socket: OwnedFd,
    /// More places than this are refused with `EMFILE`.
    free: usize,
    batches: Vec<usize>,
}

impl Fake {
    fn new(records: Vec<Vec<u8>>) -> Self {
        let (socket, other) = UnixStream::pair().expect("descriptors");
        let mut rings = Rings::of(Sizes::usual(2)).expect("io_uring is allowed");
        let place = rings.install(other.into()).expect("a place").place();
        Self {
            records,
            next: 0,
            place,
            socket: socket.into(),
            free: usize::MAX,
            batches: Vec::new(),
        }
    }
}

impl Leaving for Fake {
    type Place = FixedPlace;

    fn next_page(&mut self, most: usize) -> Vec<(FixedPlace, Vec<u8>)> {
        let rest = &self.records[self.next..];
        let page: Vec<_> = rest.iter().take(most).cloned().collect();
        self.next += page.len();
        page.into_iter()
            .map(|record| (self.place, record))
            .collect()
    }

    fn detach(&mut self, places: &[FixedPlace]) -> io::Result<Vec<OwnedFd>> {
        if places.len() > self.free {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.batches.push(places.len());
        let clones = places.iter().map(|_| self.socket.try_clone());
        clones.collect()
    }
}

fn after(millis: u64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline of system calls")]
    let now = Instant::now();
    now + Duration::from_millis(millis)
}

fn soon() -> Instant {
    after(20_000)
}

/// Runs both ends; returns what each says, and the records that came.
type Outcome = Result<Sums, CarryFault>;
fn carry(viewers: &mut Fake, batch: usize) -> (Outcome, Outcome, Vec<Vec<u8>>) {
    let (here, there) = Connection::pair().expect("descriptors");
    let receiver = thread::spawn(move || {
        let mut records = Vec::new();
        let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
            records.extend(batch.into_iter().map(|(_, record)| record));
            Ok(())
        };
        let received = receive_viewers(&there, deliver, soon());
        (received, records)
    });
    let sent = send_viewers(viewers, &here, batch, soon());
    drop(here);
    let (received, records) = receiver.join().expect("no panic");
    (sent, received, records)
}

/// Goal: all records arrive in order, whatever their sizes: empty, of usual size, longer than a message, longer than
/// a batch; and both ends have the same sums. No viewers are fine too.
#[test]
fn records_of_all_sizes_arrive_in_order() {
    let sizes = [
        0,
        1,
        60,
        230,
        PASSED_BYTES_MAX,
        CARRIED_RECORD_BYTES_MAX,
        300_000,
        900_000,
    ];
    let numbered =
        |(number, len): (usize, usize)| (0..len).map(move |at| (at * 7 + number).to_le_bytes()[0]);
    let records: Vec<Vec<u8>> = (0..400)
        .map(|number| {
            numbered((
                number,
                if number % 50 == 0 {
                    sizes[number / 50]
                } else {
                    200
                },
            ))
        })
        .map(Iterator::collect)
        .collect();
    let mut viewers = Fake::new(records.clone());
    let (sent, received, came) = carry(&mut viewers, 253);
    let sent = sent.expect("no fault");
    assert_eq!(sent, received.expect("no fault"));
    assert_eq!((sent.viewers, came == records), (400, true));
    assert!(viewers.batches.len() > 3, "{:?}", viewers.batches);
    let long = records.iter().map(Vec::len).sum::<usize>() > CARRIED_BATCH_BYTES_MAX;
    assert!(long, "one page does not fit one batch");

    let (sent, received, came) = carry(&mut Fake::new(Vec::new()), 253);
    assert_eq!(sent.expect("no fault"), received.expect("no fault"));
    assert!(came.is_empty());
}

/// Goal: batches become as small as the free descriptors ask for; without any, the hand-over ends with the reason on
/// both sides.
#[test]
fn batches_shrink_to_the_free_descriptors() {
    let records = vec![b"record".to_vec(); 100];
    let mut viewers = Fake::new(records.clone());
    viewers.free = 9;
    let (sent, _, came) = carry(&mut viewers, 64);
    assert_eq!(sent.expect("no fault").viewers, 100);
    assert_eq!(came, records);
    assert!(viewers.batches.iter().all(|count| *count <= 9));
    let mut viewers = Fake::new(records);
    viewers.free = 0;
    let (sent, received, came) = carry(&mut viewers, 64);
    assert!(matches!(sent, Err(CarryFault::Detach(_))), "{sent:?}");
    assert!(matches!(received, Err(CarryFault::Pass(PassError::Ended))));
    assert!(came.is_empty());
    let mut viewers = Fake::new(vec![vec![0; CARRIED_RECORD_BYTES_MAX + 1]]);
    let (sent, ..) = carry(&mut viewers, 64);
    assert!(
        matches!(sent, Err(CarryFault::Record(1_048_577))),
        "{sent:?}"
    );
}

/// Goal: the old process learns why the new one could not go on, also when it was told while it was sending.
#[test]
fn the_sender_learns_the_receivers_reason() {
    for fails_at in [0, 1, 5] {
        let (here, there) = Connection::pair().expect("descriptors");
        let receiver = thread::spawn(move || {
            let mut batches = 0;
            let deliver = |_| {
                batches += 1;
                if batches > fails_at {
                    return Err(io::Error::other("the table is full"));
                }
                Ok(())
            };
            receive_viewers(&there, deliver, soon())
        });
        let mut viewers = Fake::new(vec![vec![0; 300_000]; 12]);
        let sent = send_viewers(&mut viewers, &here, 2, soon());
        let Err(CarryFault::Refused(reason)) = sent else {
            panic!("at batch {fails_at}: {sent:?}");
        };
        assert!(reason.ends_with("the table is full"), "{reason}");
        let received = receiver.join().expect("no panic");
        assert!(matches!(received, Err(CarryFault::Deliver(_))));
    }
}

/// Goal: a new process that hangs or dies at any message is an error of the old one in time, and its thread is seen
/// to be alive.
#[test]
fn a_receiver_that_hangs_or_dies_ends_the_sending() {
    struct Watched(Fake, usize);
    impl Leaving for Watched {
        type Place = FixedPlace;

        fn next_page(&mut self, most: usize) -> Vec<(FixedPlace, Vec<u8>)> {
            self.0.next_page(most)
        }
        fn detach(&mut self, places: &[FixedPlace]) -> io::Result<Vec<OwnedFd>> {
            self.0.detach(places)
        }
        fn alive(&mut self) {
            self.1 += 1;
        }
    }
    let (here, _there) = Connection::pair().expect("descriptors");
    let mut viewers = Watched(Fake::new(vec![b"record".to_vec(); 100]), 0);
    let sent = send_viewers(&mut viewers, &here, 10, after(600));
    assert!(
        matches!(sent, Err(CarryFault::Pass(PassError::Late))),
        "{sent:?}"
    );
    assert!(viewers.1 >= 1, "it shows that it is alive");
    assert_eq!(viewers.0.batches, [10, 10], "the window");

    for messages in 0..10 {
        let (here, there) = Connection::pair().expect("descriptors");
        let receiver = thread::spawn(move || {
            for _ in 0..messages {
                let message = there.receive(PASSED_BYTES_MAX, soon()).expect("sent");
                if let Some(Message::Batch { number, .. }) = Message::decode(&message.bytes) {
                    let taken = Message::Taken { number }.encode();
                    there.send(&taken, &[], soon()).expect("room");
                }
            }
        });
        let mut viewers = Fake::new(vec![vec![0; 200_000]; 100]);
        let sent = send_viewers(&mut viewers, &here, 1, soon());
        assert!(
            matches!(sent, Err(CarryFault::Pass(PassError::Ended))),
            "{sent:?}"
        );
        receiver.join().expect("no panic");
    }
}

/// Goal: acknowledgements out of order are refused.
#[test]
fn the_sender_takes_only_the_next_acknowledgement() {
    for wrong in [
        Message::Taken { number: 1 },
        Message::Taken { number: u32::MAX },
        Message::End {
            number: 0,
            sent: Sums::default(),
        },
    ] {
        let (here, there) = Connection::pair().expect("descriptors");
        there.send(&wrong.encode(), &[], soon()).expect("room");
        let mut viewers = Fake::new(vec![b"record".to_vec(); 100]);
        let sent = send_viewers(&mut viewers, &here, 10, soon());
        assert!(matches!(sent, Err(CarryFault::Unexpected(_))), "{sent:?}");
    }
}

/// Goal: whatever the old process sends out of order, cut or miscounted is refused, told to it, and not delivered.
#[test]
fn the_receiver_refuses_what_is_out_of_order() {
    let mut body = Vec::new();
    wire::push_record(&mut body, b"record");
    let bytes = u32::try_from(body.len()).expect("short");
    let batch = |number, viewers, bytes, part| Message::Batch {
        number,
        viewers,
        bytes,
        part,
    };
    let more = |number, part| Message::More { number, part };
    let end = |number, viewers| Message::End {
        number,
        sent: Sums {
            viewers,
            ..Sums::default()
        },
    };
    let huge = u32::try_from(2 * CARRIED_BATCH_BYTES_MAX).expect("32 bits");
    for (what, messages) in [
        ("a later batch", vec![batch(1, 1, bytes, &body[..])]),
        ("two descriptors, one came", vec![batch(0, 2, bytes, &body)]),
        ("too long", vec![batch(0, 1, huge, &body)]),
        ("too much", vec![batch(0, 1, bytes - 1, &body)]),
        ("a record too few", vec![batch(0, 1, 0, &[])]),
        (
            "another batch's rest",
            vec![batch(0, 1, bytes, &body[..5]), more(1, &body[5..])],
        ),
        ("no rest", vec![batch(0, 1, bytes, &body[..5]), end(1, 1)]),
        (
            "an empty rest",
            vec![batch(0, 1, bytes, &body[..5]), more(0, &[])],
        ),
        ("a rest of nothing", vec![more(0, &body)]),
        ("an early end", vec![end(1, 0)]),
        ("an end with viewers that did not come", vec![end(0, 1)]),
        ("an acknowledgement", vec![Message::Taken { number: 0 }]),
    ] {
        let (here, there) = Connection::pair().expect("descriptors");
        let (socket, _other) = UnixStream::pair().expect("descriptors");
        for message in messages {
            let is_batch = matches!(message, Message::Batch { .. });
            let descriptors = [socket.as_fd()];
            let descriptors = &descriptors[..usize::from(is_batch)];
            here.send(&message.encode(), descriptors, soon())
                .expect("room");
        }
        let deliver = |_| panic!("{what} is delivered");
        let received = receive_viewers(&there, deliver, soon());
        assert!(
            matches!(
                received,
                Err(CarryFault::Unexpected(_) | CarryFault::Incomplete { .. })
            ),
            "{what}: {received:?}"
        );
        let told = here.receive(PASSED_BYTES_MAX, soon()).expect("a reason");
        let told = Message::decode(&told.bytes);
        assert!(
            matches!(told, Some(Message::Refused { .. })),
            "{what}: {told:?}"
        );
    }
}

/// Goal: all batches together leave most descriptors to others, and each has at least one viewer.
#[test]
fn batches_fit_the_limit_on_open_files() {
    for (open_files, shards, viewers) in [
        (20_000, 2, 253),
        (1_024, 2, 64),
        (1_024, 64, 2),
        (10, 8, 1),
        (u64::MAX, 1, 253),
    ] {
        assert_eq!(batch_viewers(open_files, shards), viewers);
    }
}
