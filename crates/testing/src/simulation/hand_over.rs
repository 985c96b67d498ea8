//! Hand-overs to another process, at any time: the world goes on with its cores, or with theirs as before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uproar::shard::command::Command;
use uproar::shard::core::Core;
use uproar::shard::estate::{Inherited, NotCarried, RoomsEstate, ViewersCursor, merge_rooms};
use uproar::shard::settings::ShardSettings;
use uproar_proto::base::clock::{Now, Shift};

use super::net::{FakeRing, Socket};
use super::world::{Shard, World};

/// Steps until every shard is frozen: a stalled archive holds messages for 250 ms, and members are served for 100 ms.
const STEPS_MAX: usize = 5_000;
/// A step's time, in microseconds: also in a fuzzer's world whose bytes are spent, or the clock would stand still.
const STEP_US: std::ops::Range<usize> = 100..3_000;
/// Longest pause of frozen shards, in milliseconds: then the server gives up.
const PAUSE_MS_MAX: usize = 10_000;
/// The shard of a further process that takes over the observers.
const OBSERVED: usize = 0;
/// Most shards of a process.
const SHARDS_MAX: usize = 3;
/// How much later the ticks of a further process begin, at most.
const SHIFT_MAX: usize = 1_000_000_000;

/// A connection and its record, on their way.
type Passed = (Socket, Vec<u8>);

impl World {
    /// Hands the shards over to another process, or gives up on the way.
    pub(super) fn hand_over(&mut self) {
        let outcome = self.dice.below(6);
        let mut answers = self.begin_freeze();
        let patience = if outcome == 0 {
            self.dice.below(20)
        } else {
            STEPS_MAX
        };
        for _ in 0..patience {
            self.wait();
            answers.retain_mut(|answer| answer.try_recv().is_err());
            if answers.is_empty() {
                break;
            }
        }
        assert!(
            outcome == 0 || answers.is_empty(),
            "the shards do not freeze"
        );
        if !answers.is_empty() {
            return self.roll_back();
        }
        for _ in 0..self.dice.below(3) {
            self.wait();
        }
        if self.dice.once_in(3) {
            // The other process is slow, or hangs.
            let pause = Duration::from_millis(self.dice.below(PAUSE_MS_MAX) as u64);
            self.pass(pause);
        }
        let (rooms, viewers) = self.export();
        if outcome == 1 {
            // Descriptors that were made for the other process are closed.
            drop(viewers);
            return self.roll_back();
        }
        self.succeed(rooms, viewers);
    }

    /// Tells every shard to freeze, some later than others.
    fn begin_freeze(&mut self) -> Vec<oneshot::Receiver<()>> {
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        self.dice.shuffle(&mut order);
        let mut answers = Vec::new();
        for shard in order {
            let (answer, answered) = oneshot::channel();
            let control = &mut self.shards[shard].control;
            control.deliver(Command::Freeze(answer));
            control.flush();
            answers.push(answered);
            if self.dice.once_in(3) {
                self.wait();
            }
        }
        answers
    }

    /// A step while the API is paused and nobody is accepted: clients and the archive go on.
    fn wait(&mut self) {
        let clients = self.clients.iter().enumerate();
        let alive: Vec<usize> = clients
            .filter(|(_, client)| !client.gone && !self.net.borrow()[client.peer].cut)
            .map(|(index, _)| index)
            .collect();
        if let Some(client) = self.dice.pick(&alive) {
            // Nothing, once a fuzzer's bytes are spent: else one client sends a message in each step.
            match self.dice.below(8) {
                1..4 => self.send_message(client),
                4 if !self.clients[client].observer => self.disturb(client),
                5 => self.drain_or_not(),
                _ => {}
            }
        }
        let pause = STEP_US.start + self.dice.below(STEP_US.len());
        let pause = Duration::from_micros(pause as u64);
        self.pass(pause);
        self.archive_acts();
        self.turns(1);
        self.answer_fins();
    }

    /// Tells every shard to go on, some later than others.
    fn roll_back(&mut self) {
        self.rolled_back += 1;
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        self.dice.shuffle(&mut order);
        for shard in order {
            let control = &mut self.shards[shard].control;
            control.deliver(Command::Thaw);
            control.flush();
            if self.dice.once_in(3) {
                self.wait();
            }
        }
        // A further freeze comes after this one's end.
        while self.shards.iter().any(|shard| !shard.core.is_serving()) {
            self.wait();
        }
    }

    /// Returns the rooms of all shards, and the viewers with a second descriptor each.
    fn export(&mut self) -> (Vec<u8>, Vec<Passed>) {
        let (mut rooms, mut viewers) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            rooms.push(shard.core.rooms_estate());
            let mut cursor = ViewersCursor::default();
            while !cursor.is_end() {
                let most = 1 + self.dice.below(20);
                let (some, next) = shard.core.viewers(cursor, most);
                let passed = some.into_iter();
                viewers.extend(passed.map(|(socket, record)| (socket.duplicate(), record)));
                cursor = next;
            }
        }
        (merge_rooms(&rooms, None).expect("of this process"), viewers)
    }

    /// The other process takes over, and this one ends.
    fn succeed(&mut self, rooms: Vec<u8>, mut viewers: Vec<Passed>) {
        self.handed_over += 1;
        // The archive has what it was given before the process ends.
        self.spool(usize::MAX);
        let receivers = self.shards.iter_mut();
        self.reviewer
            .begin_anew(receivers.map(|shard| &mut shard.to_reviewer));
        let shift = Duration::from_nanos(self.dice.below(SHIFT_MAX) as u64);
        self.now = Now {
            tick: self.now.tick.after(shift),
            ..self.now
        };
        let count = 1 + self.dice.below(SHARDS_MAX);
        let successor = self.successor(count);
        let old = std::mem::replace(&mut self.shards, successor);
        let nanos = u64::try_from(shift.as_nanos()).unwrap();
        let estate = RoomsEstate::parse(rooms, Shift::between(nanos, 0)).expect("whole");
        assert_eq!(estate.broken(), 0);
        let estate = Arc::new(estate);
        for shard in &mut self.shards {
            let control = &mut shard.control;
            control.deliver(Command::InheritRooms(Arc::clone(&estate)));
            control.flush();
        }
        self.turns(2);
        self.dice.shuffle(&mut viewers);
        self.undrained = vec![OBSERVED];
        self.take_over(viewers);
        drop(old);
        self.resume();
    }

    /// The shards take over the viewers, some at a time, until the homes of their rooms have counted them.
    fn take_over(&mut self, mut viewers: Vec<Passed>) {
        let mut answers = Vec::new();
        // They come last, so that they are the first batch.
        viewers.sort_by_key(|(socket, _)| self.clients[socket.id].observer);
        let mut observers = viewers
            .iter()
            .filter(|(socket, _)| self.clients[socket.id].observer)
            .count();
        while !viewers.is_empty() {
            let most = if observers > 0 {
                observers
            } else {
                1 + self.dice.below(9)
            };
            let some = viewers.split_off(viewers.len() - viewers.len().min(most));
            let shard = if observers > 0 {
                OBSERVED
            } else {
                self.dice.below(self.shards.len())
            };
            observers = 0;
            let core = &mut self.shards[shard].core;
            core.begin(self.now);
            let (answer, answered) = oneshot::channel();
            let carried = core.inherit(inherited(some));
            // Only the kernel may have no place; that client is excused.
            let refused = carried.not_carried().filter(|(_, count)| *count > 0);
            let mut reasons = refused.map(|(reason, _)| reason);
            assert!(reasons.all(|reason| reason == NotCarried::NoPlace));
            core.answer_inherited(answer, carried);
            answers.push(answered);
            if self.dice.below(2) == 1 {
                self.turns(1);
            }
        }
        while !answers
            .iter_mut()
            .all(|answer| answer.try_recv().is_ok() || answer.is_terminated())
        {
            self.turns(1);
        }
    }

    /// The shards serve, some later than others.
    fn resume(&mut self) {
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        self.dice.shuffle(&mut order);
        for shard in order {
            let control = &mut self.shards[shard].control;
            control.deliver(Command::Resume);
            control.flush();
            if self.dice.once_in(3) {
                self.turns(1);
            }
        }
        while self.shards.iter().any(|shard| !shard.core.is_serving()) {
            self.turns(1);
        }
    }

    /// The shards of another process, which has its rooms from the database.
    fn successor(&mut self, count: usize) -> Vec<Shard> {
        self.seed = self.seed.wrapping_add(1_000_003);
        let (numbers, journal) = ((count, self.seed), &mut self.journal);
        let mut shards = Shard::all(&self.plan, numbers, &self.net, journal, self.now);
        for (room, settings) in self.rooms.into_iter().zip(self.settings.clone()) {
            let home = ShardSettings::open(count).home(room);
            let settings = settings.map(|settings| (room, settings));
            let core: &mut Core<FakeRing> = &mut shards[home].core;
            core.load(settings.into_iter().collect());
        }
        shards
    }
}

fn inherited(passed: Vec<Passed>) -> Vec<Inherited<Socket>> {
    let inherited = passed.into_iter().map(|(socket, record)| Inherited {
        socket,
        record,
        share: None,
    });
    inherited.collect()
}
