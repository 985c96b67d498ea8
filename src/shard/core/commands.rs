//! Requests and commands from other threads.

use super::Core;
use super::admission::Admitted;
use super::drain::Drain;
use super::stage::{Ended, waits_for_thaw};
use crate::net::io::Io;
use crate::shard::command::{Command, Request, WhenAll};
use crate::shard::estate::Order;
use uproar_proto::base::id::FrameIds;
use uproar_proto::base::table::Slot;
use uproar_proto::chat;

impl<W: Io> Core<W> {
    /// Serves a request of a client on another shard.
    pub fn request(&mut self, request: Request<W::Socket>) {
        self.expect_turn();
        match request {
            Request::Join(pending) => self.admission.push(pending),
            Request::Publish(room, publish_request) => {
                let (rooms, env) = (&mut self.rooms, &mut self.env);
                if let Err((code, text)) = rooms.take_publish(room, &publish_request, env) {
                    let (id, fault) = (env.ids.next_id(), (code, &*text));
                    self.connections
                        .refuse_sender(&publish_request, id, fault, rooms, env);
                }
            }
            Request::Cast(room, cast) => {
                let (rooms, env) = (&mut self.rooms, &mut self.env);
                let (voter, verb) = (cast.voter.clone(), cast.cast.verb());
                if let Some(outcome) = rooms.cast(room, *cast, env) {
                    self.connections
                        .answer_cast(voter, (verb, outcome), rooms, env);
                }
            }
            Request::Marker(shard, number) => self.freeze.note(shard, Ended::Requests, number),
        }
    }

    /// Executes a command of another shard, the archive or the control thread.
    pub fn command(&mut self, command: Command<W::Socket>) {
        self.expect_turn();
        if self.is_silent() && waits_for_thaw(&command) {
            let came = self.env.now.tick;
            self.freeze.waiting.push_back((command, came));
            return;
        }
        let Self {
            env,
            rooms,
            connections,
            ..
        } = self;
        match command {
            Command::Install(pending, settings, reservation) => {
                let admitted = Admitted {
                    pending,
                    reservation,
                };
                self.install_or_drop(admitted, settings);
            }
            Command::Batch(room, batch, accepted) => {
                rooms.take_batch(room, (batch, accepted), env);
            }
            Command::Redact(room, redactions) => rooms.redact(room, &redactions, env),
            Command::Recalled(room, recalled, answer) => {
                rooms.take_recalled(room, &recalled, env);
                let _asker_gone = answer.send(());
            }
            Command::Moderated(room, since) => rooms.take_moderated(room, since, env),
            Command::Replace(token) => connections.replace(token, rooms, env),
            Command::Departed(room, departed) => rooms.departed(room, departed, env),
            Command::RefuseRequest(key, refusal) => {
                connections.refuse(Slot::from_bits(key), &refusal, rooms, env);
            }
            Command::AnswerMember(key, answer) => {
                connections.answer_member(Slot::from_bits(key), *answer, rooms, env);
            }
            Command::Evict(room, eviction) => connections.evict(room, &eviction, rooms, env),
            Command::MembersLeft(room, shard, departures) => {
                rooms.members_left(room, shard, departures);
            }
            Command::PutRoom(room, settings, answer) => {
                let done = WhenAll::new(answer);
                if let Some((room_slot, flushed)) = rooms.put(room, settings, &done, env) {
                    self.follow_flush(room_slot, flushed);
                }
                self.admission.enter_early(room);
            }
            Command::SettingsChanged(room, settings, _done) => {
                rooms.change_settings(room, settings);
            }
            Command::DeleteRoom(room, answer) => {
                let announced = rooms.announce_deletion(room, env);
                connections.delete_room(room, rooms, env);
                let _caller_gone = answer.send(announced);
            }
            Command::RoomDeleted(room) => connections.delete_room(room, rooms, env),
            Command::SendEvent {
                room,
                name,
                attributes_json,
                answer,
            } => {
                rooms.send_event(room, (&name, &attributes_json), answer, env);
            }
            Command::SendMessage(room, speech, answer) => rooms.say(room, &speech, answer, env),
            Command::SendUserEvent(event, answer) => {
                let sent = connections.tell_user(&event, rooms, env);
                let _asker_gone = answer.send(sent);
            }
            Command::Tally(room, order, answer) => rooms.order_tally(room, *order, answer, env),
            Command::Ban(order, answer) => {
                self.follow_ban(&order);
                let _asker_gone = answer.send(());
            }
            Command::Decide {
                room,
                decision,
                by,
                answer,
            } => rooms.decide(room, (&decision, &by), answer, env),
            Command::ListHeld {
                room,
                place,
                most,
                answer,
            } => rooms.list_held(room, (place, most), answer, env),
            Command::DeleteMessage {
                room,
                id,
                reason,
                answer,
            } => {
                let request = chat::Request::DeleteMessage {
                    id: &id,
                    reason: &reason,
                    request_id: "",
                };
                rooms.moderate(room, (&request, false), answer, env);
            }
            Command::Purge {
                room,
                user_id,
                reason,
                answer,
            } => rooms.purge(room, (user_id.as_deref(), &reason), answer, env),
            Command::DisconnectUser {
                room,
                eviction,
                is_banned,
                answer,
            } => {
                let request = chat::Request::DisconnectUser {
                    user_id: &eviction.user_id,
                    reason: &eviction.reason,
                    request_id: "",
                };
                rooms.moderate(room, (&request, is_banned), answer, env);
            }
            Command::Verdict(room, ticket, verdict) => {
                let denied = rooms.take_verdict(room, ticket, verdict, env.now.tick);
                if let Some(denied) = denied {
                    connections.refuse_denied(&denied, rooms, env);
                }
            }
            Command::Spooled(count) => {
                for _ in 0..count {
                    if let Some(delivery) = self.rooms.spooled(&self.env) {
                        self.deliver(delivery);
                    }
                }
            }
            Command::Cluster(from_cluster) => self.hear_cluster(*from_cluster),
            Command::Searched(search) => self.admission.searched(search, env),
            Command::Doors(doors) => self.doors.push(doors),
            Command::Adopt(changed, answer) => {
                self.adopt(*changed);
                let _caller_gone = answer.send(Ok(()));
            }
            Command::Drain(over) => {
                let viewers = u64::try_from(connections.open()).expect("a length in memory");
                self.drain = Some(Drain::new(viewers, over, env.now.tick));
            }
            Command::Undrain => {
                self.drain = None;
                connections.keep_released();
            }
            Command::Stop => {
                self.stopping = true;
                connections.cut_all(rooms, env);
            }
            Command::Freeze(answer) => self.freeze(answer),
            Command::Marker(shard, number) => self.freeze.note(shard, Ended::Commands, number),
            Command::Thaw => self.thaw(),
            Command::ExportRooms(answer) => {
                let _asker_gone = answer.send(self.rooms_estate());
            }
            Command::Export(stream, answer) => {
                self.orders.push_back(Order::Export(stream, answer));
            }
            Command::InheritRooms(estate) => self.inherit_rooms(&estate),
            Command::Inherit(viewers, answer) => {
                self.orders.push_back(Order::Inherit(viewers, answer));
            }
            Command::MembersArrived(room, shard, arrived, users) => {
                let settings = rooms.members_arrived(room, shard, (arrived, &users), env);
                env.outbox
                    .send(shard, Command::MembersCounted(room, settings));
            }
            Command::MembersCounted(room, settings) => self.members_counted(room, settings),
            Command::SenderMoved(tag, sender) => self.sender_moved(tag, sender),
            Command::TakeJournal(tail) => self.admission.take_journal(*tail, env),
            Command::Resume => self.resume(),
            Command::Reseed(seed) => env.ids = FrameIds::seeded(seed),
            Command::Survey(survey) => self.survey(survey),
            Command::Enter(pending) => self.enter(pending),
        }
    }
}
