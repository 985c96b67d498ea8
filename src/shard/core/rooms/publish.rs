//! Requests to rooms: of members, here and on other shards, and of the API.

use std::borrow::Cow;

use super::cluster::kind;
use super::{Env, Rooms};
use crate::shard::command::Refused;
use crate::shard::command::{self, Answer, ApiMessage, PublishRequest, Said};
use crate::shard::core::member_commands::ban_kicked;
use crate::shard::shard_room::purge::Purge;
use crate::shard::shard_room::{
    HomeRoom, OVER_RATE, PublishContext, Published, RequestFault, ShardRoom,
};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{ErrorCode, Request, texts};
use uproar_proto::cluster::message::AskKind;
use uproar_proto::extension::Speaker;

impl Rooms {
    /// Executes a request of a member here: in its room, or by a request to the room's home shard.
    /// `owned` makes it outlive its bytes, `speaker` tells more of its sender.
    ///
    /// # Errors
    ///
    /// Returns the refusal that the member gets.
    pub(in crate::shard::core) fn publish<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        (request, sender_json): (&Request<'_>, &str),
        (speaker, owned): (impl Fn() -> Speaker, impl FnOnce() -> PublishRequest),
        env: &mut Env<S>,
    ) -> Result<(), RequestFault> {
        let shard_room = self.table.get(room_slot);
        let away = shard_room.filter(|shard_room| shard_room.home.is_none());
        let owned = || owned().with_speaker(speaker());
        if let Some(room) = away.map(|shard_room| shard_room.id) {
            let home = env.settings.home(room);
            let request = command::Request::Publish(room, owned());
            return env.outbox.request(home, request).map_err(|_full| {
                env.metrics.mailbox_full.inc();
                OVER_RATE
            });
        }
        let request = (request, sender_json);
        let done = self.with_home(room_slot, env, |home, place, context| {
            home.publish(place, request, context, (&speaker, owned))
        });
        done.map(|_id| ())
    }

    /// Executes a request of a member on another shard.
    pub(in crate::shard::core) fn take_publish<S>(
        &mut self,
        room: RoomId,
        publish_request: &PublishRequest,
        env: &mut Env<S>,
    ) -> Result<(), RequestFault> {
        let (request, sender_json) = publish_request.request();
        let room_slot = self.find(room).ok_or(NO_ROOM)?;
        self.with_home(room_slot, env, |home, place, context| {
            let (speaker, owned) = (|| publish_request.speaker, || publish_request.clone());
            home.publish(place, (&request, sender_json), context, (speaker, owned))
        })
        .map(|_id| ())
    }

    /// Executes a deletion or disconnect of the API, and answers with the event's id. A disconnect of whoever `is_banned`
    /// bans nobody.
    pub(in crate::shard::core) fn moderate<S>(
        &mut self,
        room: RoomId,
        (request, is_banned): (&Request<'_>, bool),
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        if self.is_clustered() {
            let [subject, detail, request_id] = request.texts();
            let texts = [subject, detail, request_id, ""];
            let asked = (kind(request.action()), texts, is_banned);
            return self.ask_for_api(room, asked, answer, env);
        }
        let done = self.find(room).ok_or(NO_ROOM).and_then(|room_slot| {
            self.with_home(room_slot, env, |home, _, context| {
                let done = home.act(request, "", context);
                done.map(if is_banned {
                    Published::Banned
                } else {
                    Published::Appended
                })
            })
        });
        let outcome = done.map_err(|(code, text)| Refused::of(code, &text));
        self.answer(room, answer, outcome);
    }

    /// Takes back all messages of a user, or of everybody, and answers with the event's id.
    pub(in crate::shard::core) fn purge<S>(
        &mut self,
        room: RoomId,
        (user_id, reason): (Option<&str>, &str),
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        if self.is_clustered() {
            let texts = [user_id.unwrap_or_default(), reason, "", ""];
            let kind = if user_id.is_some() {
                AskKind::Purge
            } else {
                AskKind::Clear
            };
            return self.ask_for_api(room, (kind, texts, false), answer, env);
        }
        let done = self.find(room).ok_or(NO_ROOM).and_then(|room_slot| {
            self.with_home(room_slot, env, |home, _, context| {
                let purge = match user_id {
                    Some(user_id) => Purge::of_user(user_id, reason, &context.settings.purge_event),
                    None => Purge::of_all(reason),
                };
                home.purge(&purge, context).map(Published::Appended)
            })
        });
        let outcome = done.map_err(|(code, text)| Refused::of(code, &text));
        self.answer(room, answer, outcome);
    }

    /// Appends an application event of the API, and answers with its id.
    pub(in crate::shard::core) fn send_event<S>(
        &mut self,
        room: RoomId,
        (name, attributes_json): (&str, &str),
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        if self.is_clustered() {
            let asked = (AskKind::Event, [name, attributes_json, "", ""], false);
            return self.ask_for_api(room, asked, answer, env);
        }
        let done = self.find(room).ok_or(NO_ROOM).and_then(|room_slot| {
            self.with_home(room_slot, env, |home, _, context| {
                if home.room.is_full() {
                    return Err((ErrorCode::Internal, Cow::Borrowed(texts::UNKNOWN_OUTCOME)));
                }
                let id = home.announce((name, attributes_json), context);
                Ok(Published::Appended(id))
            })
        });
        let outcome = done.map_err(|(code, text)| Refused::of(code, &text));
        self.answer(room, answer, outcome);
    }

    /// Says a message of the API, and answers with its id and time, if it is reviewed with the verdict.
    pub(in crate::shard::core) fn say<S>(
        &mut self,
        room: RoomId,
        message: &ApiMessage,
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        if self.is_clustered() {
            let texts = [
                &*message.content,
                &message.attributes_json,
                "",
                &message.sender_json,
            ];
            let asked = (AskKind::SendMessage, texts, message.is_exempt);
            return self.ask_for_api(room, asked, answer, env);
        }
        let found = self.home_mut(room);
        let is_held = found.is_some_and(|(_, home)| home.reviews(message));
        let done = self.find(room).ok_or(NO_ROOM).and_then(|room_slot| {
            self.with_home(room_slot, env, |home, place, context| {
                home.say(place, message, context)
            })
        });
        match done {
            Ok(id) if is_held => drop(self.speakers.insert(id, answer)),
            done => {
                let outcome = done.map_err(|(code, text)| Refused::of(code, &text));
                self.answer(room, answer, outcome);
            }
        }
    }

    /// Answers a call of the API whose message its review denied; `false`: no call waits for that message.
    pub(in crate::shard::core) fn deny_speaker(&mut self, id: FrameId, reason: &str) -> bool {
        let speaker = self.speakers.remove(&id);
        speaker.is_some_and(|answer| {
            let _caller_gone = answer.send(Err(Refused::Denied(reason.into())));
            true
        })
    }

    /// Answers a call of the API: at once, or once the event is in the spool if the room is logged.
    pub(super) fn answer(
        &mut self,
        room: RoomId,
        answer: Answer<Said>,
        outcome: Result<FrameId, Refused>,
    ) {
        let is_on = self.gate.is_on();
        let outcome = outcome.and_then(|id| {
            let (_, home) = self.home_mut(room).ok_or(Refused::NoSuchRoom)?;
            let sent = home.room.last_sent();
            Ok((home, Said { id, sent }))
        });
        let _caller_gone = match outcome {
            Ok((home, said)) => return home.answer(answer, said, is_on),
            Err(refused) => answer.send(Err(refused)),
        };
    }

    /// Lets `work` have the home of a room, then sees to it that what was appended is flushed.
    pub(super) fn with_home<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        env: &mut Env<S>,
        work: impl FnOnce(
            &mut HomeRoom,
            (RoomId, Slot<ShardRoom>),
            &mut PublishContext<'_>,
        ) -> Result<Published, RequestFault>,
    ) -> Result<FrameId, RequestFault> {
        let shard_room = self.table.get_mut(room_slot).ok_or(NO_ROOM)?;
        let home = shard_room.home.as_mut().ok_or(NO_ROOM)?;
        let before = home.evictions.len();
        let mut context = env.publish_context(&mut self.review_queue);
        let published = work(home, (shard_room.id, room_slot), &mut context)?;
        let bans = !matches!(published, Published::Banned(_));
        match published {
            Published::Appended(id) | Published::Banned(id) => {
                let extension = shard_room.settings.extension.as_deref();
                if let Some(seconds) = extension.and_then(|extension| extension.settings.kick)
                    && let Some(eviction) = home.evictions.get(before).filter(|_| bans)
                {
                    ban_kicked(shard_room.id, eviction, seconds, env);
                }
                if !shard_room.unflushed {
                    shard_room.unflushed = true;
                    self.unflushed.push(room_slot);
                }
                Ok(id)
            }
            Published::Held(id) => Ok(id),
            Published::ForCluster(request) => {
                let room = shard_room.id;
                self.ask(room, &request, env)
            }
        }
    }
}

pub(super) const NO_ROOM: RequestFault = (ErrorCode::NotFound, Cow::Borrowed(texts::NO_ROOM));
