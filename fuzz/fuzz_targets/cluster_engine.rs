//! An engine among nodes and brokers that say anything in any order: it never panics, tells each request once, keeps its
//! bounds, and has one append pending for each hash slot.
//!
//! Input: steps, each a kind, a length, and that many bytes of a record, a message, a sign of life; or a number.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::CLUSTER_KEPT_BYTES_MAX;
use uproar_proto::chat::ErrorCode;
use uproar_proto::cluster::engine::{
    AppendOutcome, Engine, EngineSettings, FetchFrom, Fetched, Input, Output, RequestKey, Ticket,
};
use uproar_proto::cluster::here::{About, Facts};
use uproar_proto::cluster::message::{Ask, AskKind, AskTexts};
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Incarnation, Sequence};
use uproar_proto::extension::Speaker;

struct World {
    engine: Engine,
    now: Now,
    appends: HashMap<HashSlot, (u64, bool)>,
    fetches: Vec<(HashSlot, FetchFrom)>,
    keys: Vec<RequestKey>,
    told: HashSet<Ticket>,
    asked: u64,
    last: u64,
    // The engine's own signs of life, its last records: they come back at any time.
    own: Vec<Bytes>,
}

impl World {
    fn input(&mut self, input: Input) {
        self.engine.input(input, self.now);
        while let Some(output) = self.engine.next_output() {
            match output {
                Output::Append {
                    slot,
                    attempt,
                    payload,
                    ..
                } => {
                    let before = self.appends.insert(slot, (attempt, true));
                    assert!(before.is_none_or(|(before, _)| before < attempt));
                    self.keep(payload);
                }
                Output::Fetch { slot, from } => self.fetches.push((slot, from)),
                Output::Author { key, .. } => self.keys.push(key),
                Output::Told { ticket, .. } => assert!(self.told.insert(ticket), "told twice"),
                Output::Here(payload) | Output::Send { payload, .. } => self.keep(payload),
                Output::Deliver { .. }
                | Output::Unarchived { .. }
                | Output::Fenced { .. }
                | Output::Charged { .. }
                | Output::Skipped { .. } => {}
            }
        }
    }

    fn keep(&mut self, payload: Bytes) {
        self.own.push(payload);
        if self.own.len() > 8 {
            self.own.remove(0);
        }
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let number = bytes.first().copied().unwrap_or_default();
        let own = self.own.get(usize::from(number) % 8).cloned();
        let payload = match own {
            Some(own) if kind >= 128 => own,
            _ => Bytes::copy_from_slice(bytes.get(1..).unwrap_or_default()),
        };
        let slot = HashSlot::of(room());
        let input = match kind % 16 {
            0 => Input::Message(payload),
            1 => Input::Here(payload),
            2 | 3 => {
                self.last += u64::from(number % 4);
                let sequence = Sequence(self.last);
                Input::Record {
                    slot,
                    sequence,
                    payload,
                }
            }
            4..=6 => {
                let Some((attempt, pending)) = self.appends.get_mut(&slot) else {
                    return;
                };
                if !std::mem::take(pending) && number < 128 {
                    return;
                }
                let attempt = *attempt;
                let outcome = match kind % 16 {
                    4 => {
                        self.last += 1;
                        AppendOutcome::Ok(Sequence(self.last))
                    }
                    5 => AppendOutcome::WrongLast,
                    _ => AppendOutcome::Unknown,
                };
                Input::Appended {
                    slot,
                    attempt,
                    outcome,
                }
            }
            7 | 8 => {
                let Some((slot, from)) = self.fetches.pop() else {
                    return;
                };
                let records = if payload.is_empty() {
                    Vec::new()
                } else {
                    self.last += u64::from(number % 4);
                    vec![(Sequence(self.last), payload)]
                };
                let last = Sequence(self.last * u64::from(number & 1));
                let is_complete = number < 200;
                let found = Fetched {
                    records,
                    is_complete,
                    last,
                };
                let found = (kind % 16 == 7).then_some(found);
                Input::Fetched { slot, from, found }
            }
            9 => self.ask(),
            10 => match self.keys.pop() {
                Some(key) => authored(key, number),
                None => return,
            },
            11 => Input::NoResponders(Incarnation::new(number.into())),
            12 => Input::Move {
                slot,
                to: Incarnation::new(number.into()),
            },
            13 => Input::Drain(number % 2 == 0),
            14 if number == 0 => Input::Interrupted,
            14 => Input::Archived {
                slot,
                // Of the log as it is, or of one that was lost.
                epoch: Epoch(u64::from(number / 16)),
                sequence: Sequence(number.into()),
            },
            _ => {
                let step = Duration::from_millis(u64::from(number) * u64::from(number));
                self.now.tick = self.now.tick.after(step);
                Input::Tick
            }
        };
        self.input(input);
        assert!(self.engine.status().kept_bytes <= CLUSTER_KEPT_BYTES_MAX);
    }

    fn ask(&mut self) -> Input {
        self.asked += 1;
        let ask = Ask {
            room: room(),
            id: FrameId::from_random(self.asked.into()),
            kind: AskKind::SendMessage,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut BytesMut::new(), ["hello", "", "", "", ""]),
        };
        let ticket = Ticket(self.asked);
        Input::Ask { ticket, ask }
    }
}

fn room() -> RoomId {
    RoomId::from_random(1)
}

fn authored(key: RequestKey, number: u8) -> Input {
    if number % 4 == 0 {
        let (code, text) = (ErrorCode::TooManyRequests, "".into());
        return Input::RefusedByShard { key, code, text };
    }
    let entry = Entry {
        origin: key.origin,
        number: key.number,
        room: room(),
        sent: UnixTime::default(),
        is_urgent: number % 4 == 1,
        eviction: None,
        frame: Bytes::from_static(b"frame"),
    };
    let (slot, epoch) = (key.slot, key.epoch);
    Input::Authored { slot, epoch, entry }
}

fuzz_target!(|data: &[u8]| {
    let now = Now::default();
    let settings = EngineSettings {
        me: Incarnation::new(1),
        about: About::default(),
        linger: Duration::from_millis(5),
    };
    let mut world = World {
        engine: Engine::new(settings, now),
        now,
        appends: HashMap::new(),
        fetches: Vec::new(),
        keys: Vec::new(),
        told: HashSet::new(),
        asked: 0,
        last: 0,
        own: Vec::new(),
    };
    world.input(Input::Facts(Facts {
        is_ready: true,
        ..Facts::default()
    }));
    let mut rest = data;
    while let [kind, len, more @ ..] = rest {
        let (bytes, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        world.step(*kind, bytes);
    }
});
