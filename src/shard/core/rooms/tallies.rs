//! Votes and reactions on their way into a count, and what is counted on its way to members.

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{Env, Rooms};
use crate::shard::cluster::ToCluster;
use crate::shard::command::{Cast, MemberCast, Voter};
use crate::shard::metrics::{Figure, ShardMetrics};
use crate::shard::requests::Asker;
use crate::shard::room_tallies::Casts;
use crate::shard::shard_room::{OVER_RATE, ShardRoom};
use uproar_proto::base::clock::{Shift, Tick};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::TALLY_VOTERS_MAX;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{ErrorCode, texts};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::Outcome;
use uproar_proto::cluster::message::{Ask, AskKind, AskTexts};
use uproar_proto::extension::command::CommandFault;
use uproar_proto::extension::tallies::{
    TallyAnswer, TallyAsk, TallyEvent, TallyFault, TallyOrder, ToldTally,
};
use uproar_proto::extension::tally::{Ballot, Counted, VoteFault};
use uproar_proto::extension::{Settings, Speaker, Tallies};
use uproar_proto::room::order::NewEvent;

/// A vote or a reaction that was counted, in words, or why it was not.
pub(in crate::shard::core) type CastOutcome = Result<&'static str, CommandFault>;

impl Rooms {
    /// Counts a vote or a reaction in a room at home here; `None`: the home of its hash slot counts it, and answers later.
    pub(in crate::shard::core) fn cast<S>(
        &mut self,
        room: RoomId,
        cast: MemberCast,
        env: &mut Env<S>,
    ) -> Option<CastOutcome> {
        let is_clustered = self.is_clustered();
        let now = env.now.tick;
        let Some((room_slot, home)) = self.home_mut(room) else {
            return Some(Err((ErrorCode::NotFound, texts::NO_ROOM.into())));
        };
        let extension = home.room.settings().extension.clone();
        let Some(extension) = extension else {
            return Some(Err((ErrorCode::NotFound, NO_REACTION.into())));
        };
        let outcome = match cast.cast {
            Cast::React(taps) => {
                let settings = &extension.settings;
                if settings
                    .reactions
                    .as_ref()
                    .is_none_or(|names| !names.contains(&taps.key))
                {
                    return Some(Err((ErrorCode::BadRequest, NO_REACTION.into())));
                }
                let tallies = home.need_tallies();
                if is_clustered {
                    tallies.waiting.tap(&taps.key, taps.count.into(), now);
                } else {
                    tallies
                        .counted
                        .reactions
                        .add(&taps.key, taps.count.into(), settings, now);
                }
                env.metrics.reactions.add(taps.count.into());
                Some(Ok("counted"))
            }
            Cast::Vote(ballot) if is_clustered => {
                let kept = home.need_tallies().waiting.vote(cast.voter, ballot, now);
                kept.err().map(|_voter| Err(OVER_RATE))
            }
            Cast::Vote(ballot) => Some(in_words(self.count_vote(room_slot, &ballot, env))),
        };
        self.note_tallied(room_slot);
        outcome
    }

    /// Counts a vote here.
    fn count_vote<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        ballot: &Ballot,
        env: &Env<S>,
    ) -> Result<Counted, VoteFault> {
        let metrics = &env.metrics;
        let voters = usize::try_from(metrics.tally_voters.get()).unwrap_or(usize::MAX);
        let tallies = self.home_in(room_slot).and_then(|home| home.tallies_mut());
        let counted = tallies.map_or(Err(VoteFault::NotOpen), |tallies| {
            let has_room = voters < TALLY_VOTERS_MAX;
            tallies.counted.vote(ballot, has_room, env.now.tick)
        });
        figure(metrics, &counted).inc();
        if counted == Ok(Counted::First) {
            metrics.tally_voters.inc();
        }
        counted
    }

    /// Does what a back end asks of a room's tallies, or has the home of its hash slot do it.
    pub(in crate::shard::core) fn order_tally<S>(
        &mut self,
        room: RoomId,
        order: TallyOrder,
        answer: oneshot::Sender<TallyAnswer>,
        env: &mut Env<S>,
    ) {
        let Some(room_slot) = self.find(room) else {
            let _caller_gone = answer.send(Err(TallyFault::NoRoom));
            return;
        };
        if self.is_clustered() {
            return self.ask_tally(room, &TallyAsk::Order(order), Asker::Tally(answer), env);
        }
        let followed = self.follow_order(room_slot, &order, env);
        let _caller_gone = answer.send(followed);
    }

    fn follow_order<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        order: &TallyOrder,
        env: &Env<S>,
    ) -> TallyAnswer {
        let home = self.home_in(room_slot).ok_or(TallyFault::NoRoom)?;
        let answer = home.follow_order(order, env.now);
        self.note_tallied(room_slot);
        answer
    }

    /// Decides what another node, or this one, asks of the tallies of a room whose hash slot is at home here; the answer as
    /// JSON.
    pub(super) fn author_tally<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        ask: &Ask,
        env: &mut Env<S>,
    ) -> String {
        let [text, ..] = ask.texts.get();
        let answer = match serde_json::from_str(text) {
            Ok(TallyAsk::Order(order)) => {
                serde_json::to_string(&self.follow_order(room_slot, &order, env))
            }
            Ok(TallyAsk::Casts { ballots, taps }) => {
                if let Some(home) = self.home_in(room_slot)
                    && let Some(extension) = home.room.settings().extension.clone()
                {
                    let now = env.now.tick;
                    for (key, count) in taps {
                        let reactions = &mut home.need_tallies().counted.reactions;
                        reactions.add(&key, count, &extension.settings, now);
                    }
                }
                let count = |ballot: &Ballot| self.count_vote(room_slot, ballot, env);
                let counted: Vec<_> = ballots.iter().map(count).collect();
                self.note_tallied(room_slot);
                serde_json::to_string(&counted)
            }
            Err(_) => Ok(String::new()),
        };
        answer.unwrap_or_default()
    }

    fn ask_tally<S>(&mut self, room: RoomId, asked: &TallyAsk, asker: Asker, env: &mut Env<S>) {
        let text = serde_json::to_string(asked).unwrap_or_default();
        self.ask_own(room, (AskKind::Tally, &text, "", false), asker, env);
    }

    /// Asks the home of a room's hash slot for what this server itself wants. `false`: there is no place for the request, and
    /// its asker is not answered, which counts as unknown.
    pub(super) fn ask_own<S>(
        &mut self,
        room: RoomId,
        (kind, subject, detail, is_exempt): (AskKind, &str, &str, bool),
        asker: Asker,
        env: &mut Env<S>,
    ) -> bool {
        let Some(requests) = self
            .requests
            .as_mut()
            .filter(|requests| !requests.is_full())
        else {
            return false;
        };
        let ask = Ask {
            room,
            id: env.ids.next_id(),
            kind,
            is_from_api: true,
            speaker: Speaker::BACK_END,
            is_exempt,
            texts: AskTexts::new(&mut requests.buffer, [subject, detail, "", "", ""]),
        };
        let ticket = requests.wait(env.id, asker);
        env.outbox.tell_cluster(ToCluster::Ask { ticket, ask });
        true
    }

    /// Tells what is due, and hands on what has waited; returns when to call it again.
    pub(in crate::shard::core) fn turn_tallies<S>(&mut self, env: &mut Env<S>) -> Option<Tick> {
        if self.tallied.is_empty() {
            return None;
        }
        if env.now.tick < self.tallies_due && !self.hurries {
            return Some(self.tallies_due);
        }
        let (mut open, mut voters) = (0, 0);
        let mut next = None;
        for room_slot in std::mem::take(&mut self.tallied) {
            self.turn_room(room_slot, env);
            let Some(home) = self.home_in(room_slot) else {
                continue;
            };
            let Some(tallies) = home.tallies_mut() else {
                continue;
            };
            tallies.forget_overdue(env.now.tick);
            open += tallies.counted.open();
            voters += tallies.counted.voters();
            tallies.is_listed = tallies.due().is_some();
            if let Some(due) = tallies.due() {
                next = Some(next.map_or(due, |next: Tick| next.min(due)));
                self.tallied.push(room_slot);
            } else {
                home.end_tallies();
            }
        }
        env.metrics.tallies_open.set_len(open);
        env.metrics.tally_voters.set_len(voters);
        self.tallies_due = next.unwrap_or_default();
        next
    }

    fn turn_room<S>(&mut self, room_slot: Slot<ShardRoom>, env: &mut Env<S>) {
        let is_clustered = self.is_clustered();
        let hurries = self.hurries;
        let Some(shard_room) = self.table.get_mut(room_slot) else {
            return;
        };
        let room = shard_room.id;
        let Some(home) = shard_room.home.as_deref_mut() else {
            return;
        };
        let extension = home.room.settings().extension.clone();
        let Some(tallies) = home.tallies_mut() else {
            return;
        };
        let unset = Settings::default();
        let settings = extension
            .as_ref()
            .map_or(&unset, |extension| &extension.settings);
        let events = tallies.counted.take_due(settings, env.now);
        let waiting = tallies.waiting.take(hurries, env.now.tick);
        for event in events {
            if is_clustered {
                let asked = (
                    AskKind::Event,
                    event.name,
                    &*event.attributes_json,
                    !event.is_urgent,
                );
                let tally = event.tally.clone();
                let asker = tally.map_or(Asker::Nobody, |tally| Asker::Told(room, tally));
                if !self.ask_own(room, asked, asker, env) {
                    self.tally_told(room, event.tally.as_ref(), false, env.now.tick);
                }
            } else {
                self.tell_tally(room_slot, &event, env);
            }
        }
        for Casts {
            voters,
            ballots,
            taps,
        } in waiting
        {
            let asked = TallyAsk::Casts { ballots, taps };
            self.ask_tally(room, &asked, Asker::Voters(voters), env);
        }
    }

    /// Appends an event to a room at home here; one that is not urgent goes with the next flush.
    fn tell_tally<S>(&mut self, room_slot: Slot<ShardRoom>, event: &TallyEvent, env: &mut Env<S>) {
        let id = env.ids.next_id();
        let Some(home) = self.home_in(room_slot) else {
            return;
        };
        let mut frame = BytesMut::new();
        let new = NewEvent {
            name: event.name,
            attributes_json: &event.attributes_json,
            request_id: "",
        };
        let sent = home.room.author_event(&mut frame, id, env.now.unix, new);
        let frame = frame.freeze();
        home.room
            .adopt(&mut env.deflater, &frame, sent, event.is_urgent);
        if let Some(told) = &event.tally {
            home.note_tally(&frame, env.now);
            if let Some(tallies) = home.tallies_mut() {
                tallies.counted.told(told, true, env.now.tick);
            }
        }
        self.note_unflushed(room_slot, env.now.tick);
    }

    /// Notes what became of an event that the cluster was asked for.
    pub(super) fn tally_told(
        &mut self,
        room: RoomId,
        told: Option<&ToldTally>,
        is_told: bool,
        now: Tick,
    ) {
        if let (Some(told), Some((room_slot, home))) = (told, self.home_mut(room))
            && let Some(tallies) = home.tallies_mut()
        {
            tallies.counted.told(told, is_told, now);
            self.note_tallied(room_slot);
        }
    }

    /// Lists a room that has something to tell some time.
    pub(super) fn note_tallied(&mut self, room_slot: Slot<ShardRoom>) {
        let Some(home) = self.home_in(room_slot) else {
            return;
        };
        let Some(tallies) = home.tallies_mut() else {
            return;
        };
        let Some(due) = tallies.due() else {
            return;
        };
        let is_new = !std::mem::replace(&mut tallies.is_listed, true);
        self.tallies_due = if self.tallied.is_empty() {
            due
        } else {
            self.tallies_due.min(due)
        };
        if is_new {
            self.tallied.push(room_slot);
        }
    }

    /// Whether no vote waits for its way to another node.
    pub(super) fn has_no_casts(&self) -> bool {
        let homes = self
            .tallied
            .iter()
            .filter_map(|slot| self.get(*slot)?.home.as_deref());
        let mut tallies = homes.filter_map(|home| home.tallies());
        tallies.all(|tallies| tallies.waiting.is_empty())
    }

    /// Ends the tallies of a hash slot whose home is another node now, with what is counted: the votes are here alone.
    pub(super) fn end_tallies_of<S>(&mut self, slot: HashSlot, env: &Env<S>) {
        for room_slot in self.tallied.clone() {
            let home = self.table.get_mut(room_slot);
            let home = home.filter(|room| HashSlot::of(room.id) == slot);
            let tallies = home.and_then(|room| room.home.as_deref_mut()?.tallies_mut());
            if let Some(tallies) = tallies {
                tallies.counted.end_all(env.now);
                self.tallies_due = env.now.tick;
            }
        }
    }

    /// Takes over tallies of another process. On a node of a cluster they end with what is counted: another one is the home
    /// of their hash slot now.
    pub(super) fn inherit_tallies<S>(
        &mut self,
        (room, carried): (RoomId, &[u8]),
        shift: Shift,
        env: &Env<S>,
    ) {
        let is_clustered = self.is_clustered();
        let Some((room_slot, home)) = self.home_mut(room).filter(|_| !carried.is_empty()) else {
            return;
        };
        let extension = home.room.settings().extension.clone();
        let unset = Settings::default();
        let settings = extension
            .as_ref()
            .map_or(&unset, |extension| &extension.settings);
        if let Ok(mut counted) = Tallies::inherit(carried, shift, settings, env.now.tick) {
            if is_clustered {
                counted.end_all(env.now);
            }
            home.need_tallies().counted = counted;
            self.note_tallied(room_slot);
        }
    }

    /// Counts the voters anew at the next turn: a room with tallies is gone.
    pub(super) fn recount_tallies(&mut self) {
        self.tallies_due = Tick::default();
    }
}

/// What each of the voters of a request is told.
pub(super) fn outcomes(voters: Vec<Voter>, outcome: Outcome) -> Vec<(Voter, CastOutcome)> {
    let counted: Vec<Result<Counted, VoteFault>> = match outcome {
        Outcome::Refused(ErrorCode::NotAcceptable, text) => {
            serde_json::from_str(&text).unwrap_or_default()
        }
        Outcome::Refused(code, text) => {
            let refused = |voter| (voter, Err((code, text.to_string().into())));
            return voters.into_iter().map(refused).collect();
        }
        Outcome::Committed | Outcome::Unknown => Vec::new(),
    };
    let mut counted = counted.into_iter();
    let outcome = |voter| {
        let unknown = || Err((ErrorCode::Internal, texts::UNKNOWN_OUTCOME.into()));
        (voter, counted.next().map_or_else(unknown, in_words))
    };
    voters.into_iter().map(outcome).collect()
}

/// What a back end is told of the home's answer.
pub(super) fn answer(outcome: Outcome) -> TallyAnswer {
    match outcome {
        Outcome::Refused(ErrorCode::NotAcceptable, text) => {
            serde_json::from_str(&text).unwrap_or(Err(TallyFault::Late))
        }
        Outcome::Refused(ErrorCode::NotFound, _) => Err(TallyFault::NoRoom),
        Outcome::Refused(..) | Outcome::Committed | Outcome::Unknown => Err(TallyFault::Late),
    }
}

fn in_words(counted: Result<Counted, VoteFault>) -> CastOutcome {
    match counted {
        Ok(Counted::First) => Ok("vote counted"),
        Ok(Counted::Changed) => Ok("vote changed"),
        Err(fault) => Err(fault.refusal()),
    }
}

const NO_REACTION: &str = "The room has no such reaction";

fn figure<'a>(metrics: &'a ShardMetrics, counted: &Result<Counted, VoteFault>) -> &'a Figure {
    match counted {
        Ok(Counted::First) => &metrics.votes_counted,
        Ok(Counted::Changed) => &metrics.votes_changed,
        Err(VoteFault::Voted) => &metrics.votes_again,
        Err(VoteFault::Role(_)) => &metrics.votes_role,
        Err(VoteFault::Option(_)) => &metrics.votes_option,
        Err(VoteFault::NotOpen) => &metrics.votes_closed,
        Err(VoteFault::Full) => &metrics.votes_full,
    }
}
