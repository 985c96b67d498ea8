//! Records, messages and signs of life as bytes.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::base::clock::UnixTime;
use crate::base::id::{FrameId, RoomId};
use crate::chat::ErrorCode;
use crate::cluster::here::{About, Facts, Here};
use crate::cluster::message::{Ask, AskKind, AskTexts, Message, MessageContent};
use crate::cluster::record::{BatchRecord, Content, Entry, Eviction, Record};
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Quota, Sequence, WireFault, Wish};
use crate::extension::Speaker;
use crate::token::Capability;

fn records() -> Vec<Record> {
    let home = Incarnation::new(0xABCD);
    let entry = |eviction, frame: &'static [u8]| Entry {
        origin: Incarnation::new(9),
        number: Number(17),
        room: RoomId::from_random(4),
        sent: UnixTime::from_millis(5),
        is_urgent: eviction,
        eviction: eviction.then(|| Eviction {
            user_id: "mallory".into(),
            reason: "spam".into(),
        }),
        frame: Bytes::from_static(frame),
    };
    let contents = [
        Content::Takeover {
            home,
            archived: Sequence(1),
            known: Sequence(4),
        },
        Content::Release {
            home,
            to: Incarnation::new(1),
            is_pinned: true,
            archived: Sequence(2),
        },
        Content::Batch(BatchRecord {
            home,
            epoch: Epoch(3),
            batch: 8,
            archived: Sequence(3),
            entries: vec![entry(false, b"\x81\x02{}"), entry(true, b"")],
        }),
    ];
    let record = |content| Record {
        previous: Sequence(812),
        sent: UnixTime::from_millis(9),
        content,
    };
    contents.map(record).into()
}

fn ask() -> Ask {
    let texts = ["Hi", "{}", "r-1", r#"{"UserId":"é"}"#, "::1"];
    Ask {
        room: RoomId::from_random(4),
        id: FrameId::from_random(6),
        kind: AskKind::DisconnectUser,
        is_from_api: true,
        speaker: Speaker {
            capabilities: [Capability::DisconnectUser].into_iter().collect(),
            has_exempt_role: true,
            since: 1_700_000_000,
            is_shadowed: true,
        },
        is_exempt: true,
        texts: AskTexts::new(&mut BytesMut::new(), texts),
    }
}

fn messages() -> Vec<Message> {
    let (slot, epoch) = (HashSlot::new(200), Epoch(5));
    let contents = [
        MessageContent::Requests {
            slot,
            epoch,
            oldest: Number(1),
            first: Number(3),
            requests: vec![Some(ask()), None],
        },
        MessageContent::Have {
            slot,
            epoch,
            next: Number(7),
        },
        MessageContent::Refused {
            slot,
            epoch,
            number: Number(7),
            code: ErrorCode::NotAcceptable,
            text: "no".into(),
        },
        MessageContent::NotHome { slot, epoch },
        MessageContent::Suspect {
            incarnation: Incarnation::new(6),
        },
        MessageContent::Move {
            slot,
            to: Incarnation::new(6),
        },
        MessageContent::Balance,
        MessageContent::Draw {
            epoch,
            number: 9,
            wishes: vec![Wish {
                quota: Quota::operation(3),
                per_second: 200,
                spent: 1,
                wanted: 5,
            }],
        },
        MessageContent::Grant {
            number: 9,
            grants: vec![(Quota::SENDS, 4)],
        },
    ];
    let from = Incarnation::new(1);
    contents.map(|content| Message { from, content }).into()
}

fn here() -> Here {
    Here {
        incarnation: Incarnation::new(77),
        about: About {
            name: "chat-1".into(),
            version: "1.2.3".into(),
            pid: 4711,
            shards: 2,
            messaging: "0.0.0.0:8080".into(),
            control: "127.0.0.1:8081".into(),
        },
        unix: UnixTime::from_millis(5),
        is_draining: true,
        slots_home: 256,
        sent: UnixTime::from_millis(4),
        facts: Facts {
            is_ready: true,
            viewers: 250_000,
            key_ids: vec![[1, 2, 3, 4], [5, 6, 7, 8]],
            registry_revision: 99,
        },
    }
}

/// Goal: what is written is read, and what is cut off anywhere is refused or, where a list may end, shorter.
#[test]
fn what_is_written_is_read() {
    for record in records() {
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&record));
        for cut in 0..bytes.len() {
            assert_ne!(Record::decode(&bytes.slice(..cut)), Ok(record.clone()));
        }
    }
    for message in messages() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        for cut in 0..bytes.len() {
            assert_ne!(Message::decode(&bytes.slice(..cut)), Ok(message.clone()));
        }
    }
    let bytes = here().encode();
    assert_eq!(Here::decode(&bytes), Ok(here()));
    for cut in 0..bytes.len() {
        assert_eq!(Here::decode(&bytes.slice(..cut)), Err(WireFault::Cut));
    }
    assert_eq!(ask().texts.get()[3], r#"{"UserId":"é"}"#);
}

/// Appends three bytes to the section whose length is at `at`, as a newer version may.
fn extended(bytes: &Bytes, at: usize) -> Bytes {
    let mut grown = bytes.to_vec();
    let len = u32::from_le_bytes(grown[at..at + 4].try_into().expect("four"));
    let end = at + 4 + usize::try_from(len).expect("small");
    grown.splice(end..end, [1, 2, 3]);
    grown[at..at + 4].copy_from_slice(&(len + 3).to_le_bytes());
    grown.into()
}

/// Goal: nodes of this version read what the next one adds, and refuse what it changes.
#[test]
fn values_of_a_newer_version_are_skipped() {
    for record in records() {
        let bytes = record.encode();
        let head_end = 6 + usize::from(bytes[2]);
        let mut grown = extended(&bytes, 2);
        assert_eq!(Record::decode(&grown).as_ref(), Ok(&record));
        if bytes.len() > head_end {
            grown = extended(&bytes, head_end);
            assert_eq!(
                Record::decode(&grown).as_ref(),
                Ok(&record),
                "an entry grew"
            );
        }
    }
    for message in messages() {
        let grown = extended(&message.encode(), 2);
        assert_eq!(Message::decode(&grown), Ok(message));
    }
    assert_eq!(Here::decode(&extended(&here().encode(), 1)), Ok(here()));
    let changed = |bytes: Bytes, at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        Bytes::from(bytes)
    };
    let record = records().remove(0).encode();
    assert_eq!(
        Record::decode(&changed(record.clone(), 0, 2)),
        Err(WireFault::Version(2))
    );
    assert_eq!(
        Record::decode(&changed(record, 1, 9)),
        Err(WireFault::Kind(9))
    );
    let message = messages().remove(0).encode();
    assert_eq!(
        Message::decode(&changed(message, 1, 99)),
        Err(WireFault::Kind(99))
    );
}

proptest! {
    /// Goal: foreign bytes are refused or read, never a panic; texts have valid ends.
    #[test]
    fn foreign_bytes_are_refused_or_read(
        which in 0..11_usize,
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (records, messages) = (records(), messages());
        let all = records.iter().map(Record::encode).chain(messages.iter().map(Message::encode));
        let mut damaged = all.chain([here().encode()]).nth(which).expect("eleven").to_vec();
        let at = at.index(damaged.len());
        damaged[at] = value;
        for bytes in [Bytes::from(damaged), bytes.into()] {
            let _record = Record::decode(&bytes);
            let _here = Here::decode(&bytes);
            if let Ok(message) = Message::decode(&bytes)
                && let MessageContent::Requests { requests, .. } = message.content
            {
                for ask in requests.into_iter().flatten() {
                    let length: usize = ask.texts.get().iter().map(|text| text.len()).sum();
                    prop_assert_eq!(length, ask.texts.bytes());
                }
            }
        }
    }
}

/// Goal: a request of a server that says nothing of its speaker is read, as one of whom nothing is known.
#[test]
fn requests_of_older_servers_are_read() {
    let [first, ..] = &messages()[..] else {
        unreachable!("some are written")
    };
    let payload = first.encode();
    // The first request is a section behind the head's: version, kind, length, head, length.
    let head =
        usize::try_from(u32::from_le_bytes(payload[2..6].try_into().expect("4"))).expect("short");
    let length = 6 + head;
    let section = length + 4;
    let asked = u32::from_le_bytes(payload[length..section].try_into().expect("4"));
    let end = section + usize::try_from(asked).expect("short");
    let older = [
        &payload[..length],
        &(asked - 11).to_le_bytes(),
        &payload[section..end - 11],
        &payload[end..],
    ]
    .concat();
    let read = Message::decode(&older.into()).expect("it is whole");
    let MessageContent::Requests { requests, .. } = read.content else {
        panic!("requests")
    };
    let wanted = Ask {
        speaker: Speaker::default(),
        ..ask()
    };
    assert_eq!(requests, [Some(wanted), None]);
}
