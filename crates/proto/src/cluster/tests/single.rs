//! One engine, and one hash slot whose log the test plays.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::id::{FrameId, RoomId};
use crate::base::limits::HASH_SLOTS;
use crate::cluster::engine::{
    AppendOutcome, Engine, EngineSettings, FetchFrom, Fetched, Input, LogsEstate, Outcome, Output,
    RequestKey, Ticket,
};
use crate::cluster::here::{About, Facts, Here};
use crate::cluster::message::{Ask, AskKind, AskTexts, Message, MessageContent};
use crate::cluster::record::{BatchRecord, Content, Entry, Record};
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};
use crate::extension::Speaker;

pub(super) const ME: Incarnation = Incarnation::new(1);
pub(super) const OTHER: Incarnation = Incarnation::new(2);

pub(super) struct Single {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) slot: HashSlot,
    /// What it wants for the hash slot, or for all of them.
    pub(super) outputs: Vec<Output>,
    others: Vec<Incarnation>,
}

pub(super) fn here(incarnation: Incarnation, now: Now) -> Bytes {
    let here = Here {
        incarnation,
        about: About {
            name: incarnation.to_string().into(),
            ..About::default()
        },
        unix: now.unix,
        is_draining: false,
        slots_home: 0,
        sent: UnixTime::default(),
        facts: Facts {
            is_ready: true,
            ..Facts::default()
        },
    };
    here.encode()
}

pub(super) fn room() -> RoomId {
    RoomId::from_random(77)
}

pub(super) fn ask() -> Ask {
    Ask {
        room: room(),
        id: FrameId::from_random(5),
        kind: AskKind::SendMessage,
        is_from_api: false,
        speaker: Speaker::default(),
        is_exempt: false,
        texts: AskTexts::new(&mut BytesMut::new(), ["hello", "null", "", "{}", ""]),
    }
}

pub(super) fn entry(origin: Incarnation, number: u64) -> Entry {
    Entry {
        origin,
        number: Number(number),
        room: room(),
        sent: UnixTime::from_secs(1),
        is_urgent: false,
        eviction: None,
        frame: Bytes::from_static(b"frame"),
    }
}

fn record(previous: u64, content: Content) -> Bytes {
    let previous = Sequence(previous);
    Record {
        previous,
        sent: UnixTime::from_secs(3),
        content,
    }
    .encode()
}

pub(super) fn takeover(home: Incarnation, previous: u64) -> Bytes {
    let content = Content::Takeover {
        home,
        archived: Sequence(0),
        known: Sequence(previous),
    };
    record(previous, content)
}

pub(super) fn batch(home: Incarnation, epoch: u64, previous: u64, entries: Vec<Entry>) -> Bytes {
    let content = Content::Batch(BatchRecord {
        home,
        epoch: Epoch(epoch),
        batch: 1_000 + previous,
        archived: Sequence(0),
        entries,
    });
    record(previous, content)
}

fn settings(me: Incarnation) -> EngineSettings {
    EngineSettings {
        me,
        about: About {
            name: me.to_string().into(),
            ..About::default()
        },
        linger: Duration::from_millis(5),
    }
}

impl Single {
    /// The logs of all other hash slots are empty.
    pub(super) fn find_other_ends(&mut self) {
        let own = self.slot;
        for slot in HashSlot::all().filter(|slot| *slot != own) {
            let found = Some(Fetched {
                records: Vec::new(),
                is_complete: true,
                last: Sequence(0),
            });
            let from = FetchFrom::Last;
            self.input(Input::Fetched { slot, from, found });
        }
    }

    /// The engine of the next process, `me`, which has heard of this record of the log.
    pub(super) fn succeeded_by(mut self, me: Incarnation, seen: u64) -> Self {
        self.find_other_ends();
        let estate = self.engine.estate().expect("every log is read");
        let estate = LogsEstate::decode(&estate.encode()).expect("our own");
        let mut newest = [Sequence(0); HASH_SLOTS];
        newest[self.slot.index()] = Sequence(seen);
        let mut next = Self {
            engine: Engine::inherit(settings(me), &estate, &newest, self.now),
            outputs: Vec::new(),
            ..self
        };
        next.input(Input::Facts(Facts {
            is_ready: true,
            ..Facts::default()
        }));
        next
    }

    /// An engine that has read this log's end, and hears itself and these others.
    pub(super) fn new(log: &[(u64, Bytes)], others: &[Incarnation]) -> Self {
        let now = Now {
            tick: Tick::from_nanos(1),
            unix: UnixTime::from_secs(1),
        };
        let mut single = Self {
            engine: Engine::new(settings(ME), now),
            now,
            slot: HashSlot::of(room()),
            outputs: Vec::new(),
            others: others.to_vec(),
        };
        single.input(Input::Facts(Facts {
            is_ready: true,
            ..Facts::default()
        }));
        let from = FetchFrom::Last;
        single.fetched(from, log);
        single.outputs.clear();
        single.hear();
        single
    }

    pub(super) fn hear(&mut self) {
        for other in self.others.clone() {
            self.input(Input::Here(here(other, self.now)));
        }
        self.input(Input::Here(here(self.engine.me(), self.now)));
    }

    pub(super) fn input(&mut self, input: Input) {
        self.engine.input(input, self.now);
        while let Some(output) = self.engine.next_output() {
            let is_ours = match &output {
                Output::Append { slot, .. }
                | Output::Fetch { slot, .. }
                | Output::Deliver { slot, .. }
                | Output::Unarchived { slot, .. }
                | Output::Fenced { slot, .. }
                | Output::Skipped { slot, .. } => *slot == self.slot,
                Output::Author { key, .. } => key.slot == self.slot,
                Output::Send { .. } | Output::Told { .. } | Output::Charged { .. } => true,
                Output::Here(_) => false,
            };
            if is_ours {
                self.outputs.push(output);
            }
        }
    }

    /// Lets time pass, with signs of life from this node and those others.
    pub(super) fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(100) {
            let step = Duration::from_millis(100);
            self.now.tick = self.now.tick.after(step);
            self.now.unix = self.now.unix.after(step);
            self.hear();
            self.input(Input::Tick);
        }
    }

    pub(super) fn others(&mut self, others: &[Incarnation]) {
        self.others = others.to_vec();
    }

    pub(super) fn record(&mut self, sequence: u64, payload: Bytes) {
        self.input(Input::Record {
            slot: self.slot,
            sequence: Sequence(sequence),
            payload,
        });
    }

    pub(super) fn appended(&mut self, attempt: u64, outcome: AppendOutcome) {
        self.input(Input::Appended {
            slot: self.slot,
            attempt,
            outcome,
        });
    }

    /// Answers a read with what this log has.
    pub(super) fn fetched(&mut self, from: FetchFrom, log: &[(u64, Bytes)]) {
        let all = log
            .iter()
            .map(|(sequence, payload)| (Sequence(*sequence), payload.clone()));
        let records = match from {
            FetchFrom::Last => all.clone().last().into_iter().collect(),
            FetchFrom::After(after) => {
                let all = all.clone();
                all.filter(|(sequence, _)| *sequence > after).collect()
            }
        };
        let last = all.last().map_or(Sequence(0), |(sequence, _)| sequence);
        let found = Some(Fetched {
            records,
            is_complete: true,
            last,
        });
        let slot = self.slot;
        self.input(Input::Fetched { slot, from, found });
    }

    /// A read has no answer.
    pub(super) fn unanswered(&mut self, from: FetchFrom) {
        let slot = self.slot;
        let found = None;
        self.input(Input::Fetched { slot, from, found });
    }

    pub(super) fn message(&mut self, from: Incarnation, content: MessageContent) {
        self.input(Input::Message(Message { from, content }.encode()));
    }

    /// The outputs so far, which are forgotten.
    pub(super) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The append that it wants: attempt, condition, record.
    pub(super) fn take_append(&mut self) -> (u64, u64, Content) {
        let mut appends = self.take().into_iter().filter_map(|output| match output {
            Output::Append {
                attempt,
                expected,
                payload,
                ..
            } => {
                let record = Record::decode(&payload).expect("ours");
                assert_eq!(record.previous, expected);
                Some((attempt, expected.0, record.content))
            }
            _ => None,
        });
        let append = appends.next().expect("an append is wanted");
        assert_eq!(appends.next(), None, "one at a time");
        append
    }

    pub(super) fn is_append_wanted(&mut self) -> bool {
        let mut all = self.take().into_iter();
        all.any(|output| matches!(output, Output::Append { .. }))
    }

    /// The reads that it wants.
    pub(super) fn take_fetches(&mut self) -> Vec<FetchFrom> {
        let fetches = self.take().into_iter().filter_map(|output| match output {
            Output::Fetch { from, .. } => Some(from),
            _ => None,
        });
        fetches.collect()
    }

    /// The read that it wants.
    pub(super) fn take_fetch(&mut self) -> FetchFrom {
        let fetches = self.take_fetches();
        *fetches.first().expect("a read is wanted")
    }

    /// The messages that it sends about the hash slot.
    pub(super) fn take_messages(&mut self) -> Vec<(Incarnation, MessageContent)> {
        let sent = self.take().into_iter().filter_map(|output| match output {
            Output::Send { to, payload } => {
                Some((to, Message::decode(&payload).expect("ours").content))
            }
            _ => None,
        });
        // Probes go to other hash slots.
        let slot = self.slot;
        sent.filter(|(_, content)| match content {
            MessageContent::Requests { slot: of, .. } => *of == slot,
            _ => true,
        })
        .collect()
    }

    /// Makes it the home, by a `Takeover` of this sequence.
    pub(super) fn become_home(&mut self, sequence: u64) {
        self.pass(2_000);
        let (attempt, _, content) = self.take_append();
        assert!(matches!(content, Content::Takeover { home: ME, .. }));
        self.appended(attempt, AppendOutcome::Ok(Sequence(sequence)));
        self.take();
    }

    pub(super) fn ask(&mut self, ticket: u64) {
        let (ticket, ask) = (Ticket(ticket), ask());
        self.input(Input::Ask { ticket, ask });
    }

    /// Authors what the home's shards are asked to.
    pub(super) fn author(&mut self) -> Vec<RequestKey> {
        let keys = self
            .outputs
            .extract_if(.., |output| matches!(output, Output::Author { .. }));
        let keys = keys.filter_map(|output| match output {
            Output::Author { key, .. } => Some(key),
            _ => None,
        });
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            self.input(Input::Authored {
                slot: key.slot,
                epoch: key.epoch,
                entry: entry(key.origin, key.number.0),
            });
        }
        keys
    }

    /// The outcomes that it told.
    pub(super) fn told(&self) -> Vec<(u64, Outcome)> {
        let told = self.outputs.iter().filter_map(|output| match output {
            Output::Told {
                ticket, outcome, ..
            } => Some((ticket.0, outcome.clone())),
            _ => None,
        });
        told.collect()
    }

    pub(super) fn home(&self) -> Option<(Incarnation, Epoch)> {
        self.engine.home_of(room())
    }
}
