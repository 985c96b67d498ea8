use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;

#[expect(clippy::disallowed_methods, reason = "a deadline of a system call")]
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[expect(clippy::disallowed_methods, reason = "a deadline of a system call")]
fn now() -> Instant {
    Instant::now()
}

/// Goal: a message arrives whole with its descriptors in order, which work and are close-on-exec; an empty one, one
/// too long, and one descriptor too many are refused before anything is sent.
#[test]
fn a_message_carries_bytes_and_descriptors() {
    let (here, there) = Connection::pair().expect("descriptors");
    let (ends, others): (Vec<UnixStream>, Vec<UnixStream>) = (0..DESCRIPTORS_A_MESSAGE_MAX)
        .map(|_| UnixStream::pair().expect("descriptors"))
        .unzip();
    let descriptors: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
    let longest = vec![7; PASSED_BYTES_MAX];
    here.send(&longest, &descriptors, soon()).expect("room");
    let message = there.receive(PASSED_BYTES_MAX, soon()).expect("sent");
    assert_eq!(message.bytes, longest);
    assert_eq!(message.descriptors.len(), DESCRIPTORS_A_MESSAGE_MAX);
    for (number, (descriptor, mut other)) in (0..).zip(message.descriptors.into_iter().zip(others))
    {
        let flags = rustix::io::fcntl_getfd(&descriptor).expect("open");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut end = UnixStream::from(descriptor);
        end.write_all(&[number]).expect("open");
        let mut byte = [0];
        other.read_exact(&mut byte).expect("open");
        assert_eq!(byte, [number], "in order");
    }
    let error = here.send(&vec![0; PASSED_BYTES_MAX + 1], &[], soon());
    assert!(matches!(
        error,
        Err(PassError::Length {
            most: PASSED_BYTES_MAX
        })
    ));
    let error = here.send(&[], &descriptors[..1], soon());
    assert!(matches!(error, Err(PassError::Length { .. })));
    let many = vec![descriptors[0]; DESCRIPTORS_A_MESSAGE_MAX + 1];
    let error = here.send(b"x", &many, soon());
    assert!(matches!(error, Err(PassError::Descriptors(254))));
    assert!(
        there.receive_now(9).expect("open").is_none(),
        "nothing was sent"
    );
}

/// Goal: what is cut is refused, and its descriptors are closed; the next message is whole.
#[test]
fn a_message_that_does_not_fit_is_refused() {
    let (here, there) = Connection::pair().expect("descriptors");
    let (end, mut other) = UnixStream::pair().expect("descriptors");
    here.send(b"123456", &[end.as_fd()], soon()).expect("room");
    here.send(b"next", &[], soon()).expect("room");
    drop(end);
    let error = there.receive(5, soon());
    assert!(matches!(error, Err(PassError::Length { most: 5 })));
    assert_eq!(other.read(&mut [0]).expect("ended"), 0, "it is closed");
    assert_eq!(there.receive(5, soon()).expect("whole").bytes, b"next");
}

/// Goal: the peer's end, a deadline without a message and one without room each have an error of their own; what was
/// sent before the end is still received.
#[test]
fn an_end_and_a_deadline_differ() {
    let (here, there) = Connection::pair().expect("descriptors");
    let error = there.receive(9, now() + Duration::from_millis(1));
    assert!(matches!(error, Err(PassError::Late)));
    let (mut sent, large) = (0, vec![0; 60_000]);
    while here.send_now(&large, &[]).expect("open") {
        sent += 1;
    }
    let error = here.send(&large, &[], now() + Duration::from_millis(1));
    assert!(matches!(error, Err(PassError::Late)), "{error:?}");
    drop(here);
    for _ in 0..sent {
        assert_eq!(
            there.receive(60_000, soon()).expect("sent").bytes.len(),
            60_000
        );
    }
    let error = there.receive(9, soon());
    assert!(matches!(error, Err(PassError::Ended)));
    assert!(matches!(
        there.send(b"x", &[], soon()),
        Err(PassError::Ended)
    ));

    let (here, there) = Connection::pair().expect("descriptors");
    here.send(b"unread", &[], soon()).expect("room");
    drop(there);
    let error = here.receive(9, soon());
    assert!(matches!(error, Err(PassError::Ended)), "{error:?}");
}

/// Goal: an end tells who connected, and whether that process has ended. Method: this very process.
#[test]
fn an_end_tells_its_peer() {
    let (here, there) = Connection::pair().expect("descriptors");
    let peer = here.peer().expect("connected");
    assert_eq!(peer.pid, rustix::process::getpid());
    assert_eq!(peer.uid, rustix::process::getuid());
    here.peer_process().expect("this very process");
    drop(there);
    let gone = here.peer_process().expect_err("its end is closed");
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
}
