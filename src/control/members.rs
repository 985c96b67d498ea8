//! Commands of members that change what is stored: modes of a room, over its tags.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::mpsc;

use super::bans::{Source, Wanted};
use super::fault::Fault;
use super::op::purge::{clear, purge};
use super::pins::Pinning;
use super::record::{Override, RoomRecord};
use super::state::Control;
use crate::audit::{By, Entry};
use crate::shard::command::{Command, MemberAnswer, MemberOrder, Refused};
use crate::shard::estate::unfinished::Act;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::CALLS_OPEN_MAX;
use uproar_proto::chat::{ErrorCode, encode, texts};
use uproar_proto::extension::Verb;
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::command::{CommandFault, Set};
use uproar_proto::extension::held::Decision;
use uproar_proto::extension::new_ban::{Cause, NewBan};
use uproar_proto::extension::pin::PinRequest;

impl Control {
    /// Carries out members' commands, and ends what they did for a time, as long as the server runs. Call within a `LocalSet`.
    pub async fn serve_members(self: Rc<Self>, orders: mpsc::Receiver<MemberOrder>) -> Infallible {
        self.orders.replace(Some(orders));
        let take_orders = async {
            loop {
                let next = poll_fn(|context| match &mut *self.orders.borrow_mut() {
                    Some(orders) => orders.poll_recv(context),
                    None => Poll::Pending,
                });
                match next.await {
                    Some(order) => self.accept(order),
                    // No shard is left that gives any.
                    None => pending().await,
                }
            }
        };
        tokio::join!(self.keep_ends(), take_orders).0
    }

    /// Begins to carry a command out. While another process may have the database, what the server does by itself is
    /// deferred: nobody would ask again. A member is told to.
    fn accept(self: &Rc<Self>, order: MemberOrder) {
        let is_ending = self.phase.is_ending();
        if is_ending && let Some(act) = Act::of(&order) {
            let mut deferred = self.deferred.borrow_mut();
            if deferred.len() < CALLS_OPEN_MAX {
                deferred.push(act);
            }
            return;
        }
        let (control, open) = (Rc::clone(self), Rc::clone(&self.open_calls));
        tokio::task::spawn_local(
            async move { control.answer_member(order, open, is_ending).await },
        );
    }

    /// What the server is to do by itself and has not begun, for the process that takes over. Call it when no shard has
    /// anything more to say; it stays here in case that process fails.
    pub fn unfinished(self: &Rc<Self>) -> Vec<Act> {
        let waiting = || self.orders.borrow_mut().as_mut()?.try_recv().ok();
        while let Some(order) = waiting() {
            self.accept(order);
        }
        self.deferred.borrow().clone()
    }

    /// Does what another process has left to be done.
    pub fn take_up(self: &Rc<Self>, acts: Vec<Act>) {
        for act in acts {
            self.accept(act.order());
        }
        // The rooms are known now, and may be changed.
        self.look_now.notify_one();
    }

    /// Does what was deferred, now that it may write again.
    pub(super) fn resume_deferred(self: &Rc<Self>) {
        self.take_up(self.deferred.take());
    }

    async fn answer_member(self: &Rc<Self>, order: MemberOrder, open: Rc<()>, is_ending: bool) {
        let MemberOrder {
            room,
            sender,
            request_id,
            sender_json,
            verb,
        } = order;
        let name = verb.name();
        let outcome = if is_ending {
            let text = "The server is being handed over to a new process; say it again in a moment";
            Err((ErrorCode::TooManyRequests, text.into()))
        } else if Rc::strong_count(&open) > CALLS_OPEN_MAX {
            Err((ErrorCode::TooManyRequests, texts::RATE.into()))
        } else {
            self.carry_out(room, &verb, &sender_json).await
        };
        let result = match &outcome {
            Ok(_) => "ok",
            Err((ErrorCode::BadRequest, _)) => "400",
            Err((ErrorCode::Forbidden, _)) => "403",
            Err((ErrorCode::NotFound, _)) => "404",
            Err((ErrorCode::NotAcceptable, _)) => UNCHANGED,
            Err((ErrorCode::TooManyRequests, _)) => "429",
            Err(_) => "500",
        };
        self.audit_member(room, &sender_json, &verb, result).await;
        *self
            .member_orders
            .borrow_mut()
            .entry((name, result))
            .or_default() += 1;
        let answer = MemberAnswer {
            request_id,
            verb: name,
            outcome,
        };
        let answer = Command::AnswerMember(sender.connection, Box::new(answer));
        self.gateway.tell(sender.shard, answer);
    }

    /// Notes a command before it is answered. What has changed nothing is not noted, nor what the server does by itself as part
    /// of another act, as taking back the pin of a message that was deleted.
    async fn audit_member(
        &self,
        room: RoomId,
        sender_json: &str,
        verb: &Verb,
        result: &'static str,
    ) {
        let audit = &self.gateway.shared().audit;
        if !audit.is_on() || result == "400" || result == UNCHANGED {
            return;
        }
        let by = match (sender_json, verb) {
            ("", Verb::Ban(ban)) if ban.cause == Cause::Rule => By::Rule("uproar:rules"),
            ("", Verb::Ban(_)) => By::Rule("uproar:kick"),
            ("", _) => return,
            _ => By::User(encode::sender_name(sender_json)),
        };
        let (target, reason) = subject(verb);
        let entry = Entry {
            time: self.clock.now().unix,
            by,
            action: verb.name(),
            room: audit.room_arn(&room),
            target,
            reason: reason.to_owned(),
            result: result.to_owned(),
        };
        audit.record(entry).await;
    }

    async fn carry_out(
        self: &Rc<Self>,
        room: RoomId,
        verb: &Verb,
        sender_json: &str,
    ) -> Result<String, CommandFault> {
        match verb {
            Verb::Set(set) => {
                let set = self.set_mode(room, set).await;
                set.map_err(|fault| refusal(&fault))
            }
            Verb::Purge { user_id, reason } => {
                let purged = purge(self, room, user_id, reason).await;
                let purged = purged.map_err(|refused| refused_in_room(&refused))?;
                Ok(format!("{purged} messages of {user_id} are removed"))
            }
            Verb::Clear(reason) => {
                let cleared = clear(self, room, reason).await;
                cleared.map_err(|refused| refused_in_room(&refused))?;
                Ok("all messages are removed".to_owned())
            }
            Verb::Pin(asked) => self.pin_for(room, asked, sender_json).await,
            Verb::Unpin(only) => {
                let only = only.as_ref().map(FrameId::as_str);
                let unpinned = self.unpin(room, only).await;
                let unpinned = unpinned.map_err(|fault| refusal(&fault))?;
                let done = if unpinned {
                    "unpinned"
                } else {
                    "nothing is pinned"
                };
                Ok(done.to_owned())
            }
            Verb::Ban(ban) => {
                let by = match ban.cause {
                    Cause::Asked => moderator(sender_json, &ban.user_id)?,
                    Cause::Kick => "uproar:kick".to_owned(),
                    Cause::Rule => "uproar:rules".to_owned(),
                };
                let banned = self.ban_member(room, ban, by).await;
                let banned = banned.map_err(|fault| {
                    self.note_unbanned((room, ban), &fault);
                    refusal(&fault)
                })?;
                banned.ok_or((ErrorCode::NotAcceptable, "".into()))
            }
            Verb::Unban(user_id) => {
                moderator(sender_json, user_id)?;
                self.unban_member(room, user_id).await
            }
            Verb::Decide(decision) => self.decide_member(room, decision, sender_json).await,
            // A room's home counts them.
            Verb::Vote(_) | Verb::React(_) => Err((ErrorCode::Internal, "".into())),
        }
    }

    async fn pin_for(
        self: &Rc<Self>,
        room: RoomId,
        asked: &PinRequest,
        sender_json: &str,
    ) -> Result<String, CommandFault> {
        let by = encode::sender_name(sender_json);
        let of = Pinning {
            by: &by,
            user: "",
            attributes: None,
        };
        match self.pin(room, asked, of).await {
            Ok(_) => Ok("pinned".to_owned()),
            Err(Fault::NotFound { .. }) if asked.text.is_none() => {
                Err((ErrorCode::NotFound, NOT_REMEMBERED.into()))
            }
            Err(fault) => Err(refusal(&fault)),
        }
    }

    /// Lifts a user's ban in a room; returns what is so now, for people.
    async fn unban_member(&self, room: RoomId, user_id: &str) -> Result<String, CommandFault> {
        match self.unban(Some(room), user_id).await {
            Ok(true) => Ok(format!("{user_id} is not banned any more")),
            Ok(false) => {
                let text = format!("{user_id} is not banned from this room");
                Err((ErrorCode::NotFound, text.into()))
            }
            Err(fault) => Err(refusal(&fault)),
        }
    }

    async fn decide_member(
        &self,
        room: RoomId,
        decision: &Decision,
        sender_json: &str,
    ) -> Result<String, CommandFault> {
        let by = encode::sender_name(sender_json);
        match self.decide(room, decision.clone(), &by).await {
            Ok(_) if decision.allows => Ok(format!("{} is allowed", decision.id)),
            Ok(_) => Ok(format!("{} is denied", decision.id)),
            Err(Refused::NoSuchRoom) => {
                let text = "The message is not held, or not any more";
                Err((ErrorCode::NotFound, text.into()))
            }
            Err(refused) => Err(refused_in_room(&refused)),
        }
    }

    /// Bans a user as a moderator says, or because of a kick or a rule; returns what is so now, for people. `None`: the ban
    /// that there is stays.
    async fn ban_member(
        &self,
        room: RoomId,
        ban: &NewBan,
        by: String,
    ) -> Result<Option<String>, Fault> {
        let source = Source::of(ban.cause);
        let wanted = Wanted {
            room: Some(room),
            ban: ban.clone(),
            by,
            source,
            addresses: false,
        };
        let made = self.ban(wanted).await?;
        let NewBan {
            user_id,
            mode,
            seconds,
            ..
        } = ban;
        let done = match mode {
            BanMode::Timeout => "timed out",
            BanMode::Ban => "banned",
            BanMode::Shadow => "shadow banned",
        };
        let time = seconds.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
        Ok(made.map(|_| format!("{user_id} is {done}{time}")))
    }

    /// Lays a value over a tag, or takes it back; returns what is so now, for people.
    async fn set_mode(self: &Rc<Self>, id: RoomId, set: &Set) -> Result<String, Fault> {
        let now_ms = self.clock.now().unix.millis();
        let until_ms = set
            .seconds
            .map(|seconds| now_ms + 1000 * u64::from(seconds));
        let edited = self.registry.edit(id, |room: &mut RoomRecord| {
            let over = set.value.as_ref().map(|value| Override {
                value: value.to_string(),
                until_ms,
            });
            room.lay_over(set.tag, over, now_ms);
            Ok(())
        });
        let room = edited
            .await?
            .ok_or_else(|| Fault::not_found(&id.to_string()))?;
        self.note_ends(id);
        self.put_room(&room).await?;
        let name = set.tag;
        let until = set
            .seconds
            .map_or_else(String::new, |seconds| format!(" for {seconds} s"));
        Ok(match set.value.as_deref() {
            None => format!("{name} is as the room's tags say"),
            Some("") => format!("{name} is off{until}"),
            Some(value) => format!("{name} is {value}{until}"),
        })
    }
}

/// How a ban is counted that follows from a kick or a rule, where another one stays.
const UNCHANGED: &str = "unchanged";
/// Why a pin by id alone is refused.
const NOT_REMEMBERED: &str = "The message is not remembered; give its text, too";
/// The moderator who bans or unbans a user: anybody but herself.
fn moderator(sender_json: &str, user_id: &str) -> Result<String, CommandFault> {
    let by = encode::sender_name(sender_json);
    if by == user_id {
        let text = "You cannot ban or unban yourself";
        return Err((ErrorCode::BadRequest, text.into()));
    }
    Ok(by)
}

/// What a command is aimed at, and its reason.
fn subject(verb: &Verb) -> (String, &str) {
    match verb {
        Verb::Set(set) => {
            let value = set.value.as_deref();
            let value = value.map_or("as the tags say", |value| {
                if value.is_empty() { "off" } else { value }
            });
            (format!("{}={value}", set.tag), "")
        }
        Verb::Pin(asked) => {
            let id = asked.id.map(|id| id.as_str().to_owned());
            let text = || asked.text.as_deref().unwrap_or_default().to_owned();
            (id.unwrap_or_else(text), "")
        }
        Verb::Unpin(_) | Verb::Vote(_) | Verb::React(_) => (String::new(), ""),
        Verb::Ban(ban) => (ban.user_id.to_string(), &ban.reason),
        Verb::Unban(user_id) => (user_id.to_string(), ""),
        Verb::Purge { user_id, reason } => (user_id.to_string(), reason),
        Verb::Clear(reason) => (String::new(), reason),
        Verb::Decide(decision) => (decision.id.as_str().to_owned(), &decision.reason),
    }
}

/// What a member is told of a refusal of the room's shard.
fn refused_in_room(refused: &Refused) -> CommandFault {
    match refused {
        Refused::NoSuchRoom => (ErrorCode::NotFound, texts::NO_ROOM.into()),
        Refused::Rate | Refused::Busy => (ErrorCode::TooManyRequests, texts::RATE.into()),
        Refused::Denied(_) | Refused::Late => (ErrorCode::Internal, texts::UNKNOWN_OUTCOME.into()),
    }
}

/// What a member is told of a fault of the control plane.
fn refusal(fault: &Fault) -> CommandFault {
    let text: Cow<'static, str> = fault.reason().into();
    match fault.kind().1 {
        404 => (ErrorCode::NotFound, texts::NO_ROOM.into()),
        429 => (ErrorCode::TooManyRequests, text),
        400..500 => (ErrorCode::BadRequest, text),
        _ => (ErrorCode::Internal, text),
    }
}
