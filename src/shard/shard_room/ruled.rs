//! A room with rules: what becomes of messages that they hit, and of those that wait for a moderator.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::{HomeRoom, OVER_RATE, PublishContext, Published, RequestFault};
use crate::shard::aside::Aside;
use crate::shard::command::{MemberOrder, PublishRequest, SenderAddress};
use crate::shard::metrics::ShardMetrics;
use crate::shard::review::ReviewRequest;
use crate::shard::room_ruled::{HeldForCrew, Ruled};
use crate::shard::rules::Ruling;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::{AFTER_REVIEW_TIMEOUT, HELD_FOR, HELD_MAX};
use uproar_proto::chat::{ErrorCode, Request, encode};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::held::{
    DECIDED, Decision, HELD, HeldMessage, HeldPage, HeldPlace, IS_HELD,
};
use uproar_proto::extension::new_ban::{Cause, NewBan};
use uproar_proto::extension::rules::Action;
use uproar_proto::extension::speech::Key;
use uproar_proto::extension::{Speech, Verb};
use uproar_proto::room::order::NewMessage;

/// In place of a refusal's text, between the nodes of a cluster: the sender was told already.
pub const KEPT: &str = "uproar:kept";
/// The same: a held message is denied, as was asked for.
pub const DENIED_AS_ASKED: &str = "uproar:denied";
/// [`HELD_FOR`] in milliseconds.
const HELD_FOR_MS: u64 = 1000 * HELD_FOR.as_secs();
/// What a sender is told whose message a rule refuses without a reason.
const REFUSED: &str = "The message was not accepted by the room's rules";
/// What a moderator is told of a message that does not wait.
const NOT_HELD: RequestFault = (
    ErrorCode::NotFound,
    std::borrow::Cow::Borrowed("The message is not held, or not any more"),
);

impl HomeRoom {
    /// The room's rules, if it has some, or messages that they held.
    pub(in crate::shard) fn ruled(&self) -> Option<&Ruled> {
        self.detour.as_deref()?.ruled.as_deref()
    }

    fn ruled_mut(&mut self) -> Option<&mut Ruled> {
        self.detour.as_deref_mut()?.ruled.as_deref_mut()
    }

    /// Begins to hold messages to rules, or ends it, as the settings ask. Nothing is held without: [`HomeRoom::end_waiting`].
    pub(super) fn follow_rules(&mut self) {
        let extension = self.room.settings().extension.as_deref();
        let asked = extension.map(|extension| &extension.settings);
        let names = asked.and_then(|asked| asked.rules.clone());
        let reviewer = asked.and_then(|asked| asked.after_review.clone());
        if names.is_some() || reviewer.is_some() {
            let detour = self.detour.get_or_insert_default();
            let ruled = detour.ruled.get_or_insert_default();
            (ruled.names, ruled.reviewer) = (names, reviewer);
        } else if let Some(detour) = &mut self.detour {
            detour.ruled = None;
        }
    }

    /// Asks the room's rules about a message; `None`: it is said as it is.
    ///
    /// # Errors
    ///
    /// A rule refuses it, or the room is over its rate, or holds as many messages as it may.
    pub(super) fn ruling(
        &self,
        room: RoomId,
        speech: &Speech<'_>,
        context: &mut PublishContext<'_>,
    ) -> Result<Option<Ruling>, RequestFault> {
        let Some(Ruled {
            names: Some(names),
            waiting,
            ..
        }) = self.ruled()
        else {
            return Ok(None);
        };
        if speech.speaker.is_exempt() {
            return Ok(None);
        }
        if context.settings.room_rates && self.room.is_over_rate(context.now.tick) {
            return Err(OVER_RATE);
        }
        let (rules, metrics) = (&context.budgets.rules, context.metrics);
        let ruling = metrics.rules.measure(|| rules.judge(names, speech.content));
        let Some(ruling) = ruling else {
            return Ok(None);
        };
        let held = usize::try_from(metrics.held_for_crew.get()).unwrap_or(usize::MAX);
        match ruling.action {
            Action::Hold if waiting.is_full() || held >= HELD_MAX => return Err(OVER_RATE),
            Action::Mask | Action::Shadow | Action::Hold => return Ok(Some(ruling)),
            Action::Reject => {}
            // He would learn of the shadow.
            Action::Timeout if speech.speaker.is_shadowed => {}
            Action::Timeout => {
                let order = time_out(room, speech.sender_json, &ruling);
                context.asides.push(Aside::Order(Box::new(order)));
            }
        }
        let reason = if ruling.reason.is_empty() {
            REFUSED.into()
        } else {
            ruling.reason.into_string().into()
        };
        Err((ErrorCode::NotAcceptable, reason))
    }

    /// Says a message as its ruling lets it be said, or keeps it.
    pub(super) fn say_ruled(
        &mut self,
        room: RoomId,
        (request, sender_json): (&Request<'_>, &str),
        ruling: Option<Ruling>,
        context: &mut PublishContext<'_>,
        owned: impl FnOnce() -> PublishRequest,
    ) -> Published {
        let Some(ruling) = ruling else {
            let id = self.append(request, sender_json, &mut context.encoding());
            self.ask_afterwards((room, id), owned, context);
            return Published::Appended(id);
        };
        let asked = ruling.applied(owned());
        if ruling.action != Action::Mask {
            let id = context.ids.next_id();
            self.keep((room, id), asked, &ruling, context);
            return Published::Held(id);
        }
        let (request, sender_json) = asked.request();
        let id = self.append(&request, sender_json, &mut context.encoding());
        self.ask_afterwards((room, id), || asked, context);
        Published::Appended(id)
    }

    /// Gives a message back to its sender alone, and holds it for those who moderate if its ruling says so.
    pub(super) fn keep(
        &mut self,
        (room, id): (RoomId, FrameId),
        asked: PublishRequest,
        ruling: &Ruling,
        context: &mut PublishContext<'_>,
    ) {
        let message = asked.message();
        if ruling.action != Action::Hold {
            return give_back((room, id), message, context);
        }
        let user_id = encode::sender_name(message.sender_json);
        let attributes_json = marked(message.attributes_json);
        let marked = NewMessage {
            attributes_json: &attributes_json,
            ..message
        };
        tell_sender((room, id), marked, context);
        let seconds = HELD_FOR.as_secs().to_string();
        let told = [
            ("MessageId", id.as_str()),
            ("UserId", &*user_id),
            ("Content", message.content),
            ("Rule", &*ruling.rule),
            ("Seconds", &*seconds),
        ];
        let frame = event(HELD, told, context);
        context.asides.push(Aside::crew(room, frame));
        let rule = ruling.rule.clone();
        let until = context.now.tick.after(HELD_FOR);
        self.wait(id, until, (asked, rule), context.metrics);
    }

    /// Lets a message wait, of this process or of another one; in a room that has rules still.
    pub(in crate::shard) fn wait(
        &mut self,
        id: FrameId,
        until: Tick,
        (publish_request, rule): (PublishRequest, Box<str>),
        metrics: &ShardMetrics,
    ) {
        let ruled = self.ruled_mut().filter(|ruled| ruled.names.is_some());
        let held = HeldForCrew {
            publish_request,
            rule,
        };
        if ruled.is_some_and(|ruled| ruled.waiting.put(id, until, held)) {
            metrics.held_for_crew.add(1);
        }
    }

    /// Decides a message that waits: it is said now, or nobody gets it.
    pub(in crate::shard) fn decide(
        &mut self,
        room: RoomId,
        (decision, by): (&Decision, &str),
        context: &mut PublishContext<'_>,
    ) -> Result<Published, RequestFault> {
        let asked = self.take_waiting(room, (decision, by), context)?;
        let id = decision.id;
        if decision.allows && asked.speaker.is_shadowed {
            give_back((room, id), asked.message(), context);
            return Err((ErrorCode::NotAcceptable, KEPT.into()));
        }
        if !decision.allows {
            return Ok(Published::Held(id));
        }
        let sent = context.now.unix;
        self.room.order(context.deflater, id, sent, asked.message());
        self.ask_afterwards((room, id), || asked, context);
        Ok(Published::Appended(id))
    }

    /// Takes a message that waits out of the queue, and tells what is decided.
    pub(super) fn take_waiting(
        &mut self,
        room: RoomId,
        (decision, by): (&Decision, &str),
        context: &mut PublishContext<'_>,
    ) -> Result<PublishRequest, RequestFault> {
        if decision.allows && self.room.is_full() {
            return Err(OVER_RATE);
        }
        let taken = self
            .ruled_mut()
            .and_then(|ruled| ruled.waiting.take(decision.id));
        let held = taken.ok_or(NOT_HELD)?;
        let result = if decision.allows { "allowed" } else { "denied" };
        let told = (result, by, &*decision.reason);
        tell_decided((room, decision.id), &held, told, context);
        Ok(held.publish_request)
    }

    /// Some of the messages that wait, behind a place, the oldest first.
    pub(in crate::shard) fn held_page(
        &self,
        place: Option<HeldPlace>,
        most: u32,
        now: Now,
    ) -> HeldPage {
        let Some(ruled) = self.ruled() else {
            return HeldPage::default();
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut waiting = ruled.waiting.behind(place);
        let (mut messages, mut last) = (Vec::new(), None);
        for (id, until, held) in waiting.by_ref().take(most) {
            let message = held.publish_request.message();
            let left = u64::try_from(until.since(now.tick).as_millis()).unwrap_or(u64::MAX);
            let ends_ms = now.unix.millis().saturating_add(left);
            messages.push(HeldMessage {
                id: id.as_str().to_owned(),
                sender_json: message.sender_json.to_owned(),
                content: message.content.to_owned(),
                attributes_json: message.attributes_json.to_owned(),
                rule: held.rule.to_string(),
                sent_ms: ends_ms.saturating_sub(HELD_FOR_MS),
                ends_ms,
            });
            last = Some(HeldPlace::behind(id, until));
        }
        let next = last.filter(|_| waiting.next().is_some());
        HeldPage {
            messages,
            next: next.map(|place| place.to_string()),
        }
    }

    /// Denies messages that may wait until then and no longer; how many still wait.
    pub(in crate::shard) fn end_waiting(
        &mut self,
        room: RoomId,
        until: Tick,
        context: &mut PublishContext<'_>,
    ) -> usize {
        while let Some((id, held)) = self
            .ruled_mut()
            .and_then(|ruled| ruled.waiting.take_over(until))
        {
            context.metrics.held_over.inc();
            tell_decided((room, id), &held, ("expired", "", ""), context);
        }
        self.ruled().map_or(0, |ruled| ruled.waiting.len())
    }

    /// Forgets what waits of a user, or of everybody.
    pub(in crate::shard) fn forget_waiting(
        &mut self,
        user_id: Option<&str>,
        metrics: &ShardMetrics,
    ) {
        if let Some(ruled) = self.ruled_mut() {
            let before = ruled.waiting.len();
            ruled.waiting.retain(|held| {
                let sender_json = held.publish_request.message().sender_json;
                user_id.is_some_and(|user_id| !encode::is_sender(sender_json, user_id))
            });
            not_held_any_more(before - ruled.waiting.len(), metrics);
        }
    }

    /// Forgets a message that waits: it is deleted before it was said.
    pub(super) fn forget_waiting_message(&mut self, id: &str) {
        // The gauge follows within a second.
        if let (Some(id), Some(ruled)) = (FrameId::parse(id), self.ruled_mut()) {
            ruled.waiting.take(id);
        }
    }

    /// The messages of a user that wait.
    pub(in crate::shard) fn waiting_of(&self, user: Key) -> impl Iterator<Item = FrameId> {
        let waiting = self
            .ruled()
            .into_iter()
            .flat_map(|ruled| ruled.waiting.all());
        let is_theirs = move |held: &HeldForCrew| {
            let sender_json = held.publish_request.message().sender_json;
            Key::of_user(&encode::sender_name(sender_json)) == user
        };
        waiting.filter_map(move |(id, _, held)| is_theirs(held).then_some(id))
    }

    /// Has a message that is said reviewed, if the room asks for it. One that the control thread cannot take is not.
    pub(in crate::shard) fn ask_afterwards(
        &self,
        place: (RoomId, FrameId),
        asked: impl FnOnce() -> PublishRequest,
        context: &mut PublishContext<'_>,
    ) {
        let Some(reviewer) = self.ruled().and_then(|ruled| ruled.reviewer.as_deref()) else {
            return;
        };
        let deadline = context.now.tick.after(AFTER_REVIEW_TIMEOUT);
        let request = ReviewRequest::afterwards(place, asked(), reviewer.into(), deadline);
        if !context.review_queue.ask_afterwards(request) {
            context.metrics.after_shed.inc();
        }
    }
}

impl Ruling {
    /// A message as it lets it be said.
    pub(super) fn applied(&self, asked: PublishRequest) -> PublishRequest {
        match &self.masked {
            Some(masked) => asked.saying(masked),
            None => asked,
        }
    }
}

/// Gives a message back to its sender alone: nobody else is told of it.
pub(in crate::shard) fn give_back(
    place: (RoomId, FrameId),
    message: NewMessage<'_>,
    context: &mut PublishContext<'_>,
) {
    tell_sender(place, message, context);
    context.metrics.shadowed.inc();
}

/// Sends a message to all connections of its sender.
fn tell_sender(
    (room, id): (RoomId, FrameId),
    message: NewMessage<'_>,
    context: &mut PublishContext<'_>,
) {
    let echo = encode::Message {
        id,
        request_id: message.request_id,
        attributes_json: message.attributes_json,
        content: message.content,
        sent: context.now.unix,
        sender_json: message.sender_json,
    };
    let mut frame = BytesMut::with_capacity(echo.bytes_max());
    encode::message(&mut frame, &echo);
    let user_id = encode::sender_name(message.sender_json);
    let frame = frame.freeze();
    context.asides.push(Aside::user(room, &user_id, frame));
}

fn not_held_any_more(count: usize, metrics: &ShardMetrics) {
    let count = u64::try_from(count).expect("a number in memory");
    let held = &metrics.held_for_crew;
    held.set(held.get().saturating_sub(count));
}

/// The time-out that a rule gives.
fn time_out(room: RoomId, sender_json: &str, ruling: &Ruling) -> MemberOrder {
    MemberOrder {
        room,
        sender: SenderAddress::NOWHERE,
        request_id: "".into(),
        sender_json: "".into(),
        verb: Verb::Ban(NewBan {
            user_id: encode::sender_name(sender_json).into(),
            mode: BanMode::Timeout,
            seconds: ruling.seconds,
            reason: ruling.reason.clone(),
            cause: Cause::Rule,
        }),
    }
}

/// Tells those who moderate, and the sender, what became of a held message.
fn tell_decided(
    (room, id): (RoomId, FrameId),
    held: &HeldForCrew,
    (result, by, reason): (&str, &str, &str),
    context: &mut PublishContext<'_>,
) {
    not_held_any_more(1, context.metrics);
    let told = [
        ("MessageId", id.as_str()),
        ("Result", result),
        ("By", by),
        ("Reason", reason),
        ("Rule", &*held.rule),
    ];
    let frame = event(DECIDED, told, context);
    let sender_json = held.publish_request.message().sender_json;
    let user_id = encode::sender_name(sender_json);
    context.asides.push(Aside::crew(room, frame.clone()));
    context.asides.push(Aside::user(room, &user_id, frame));
}

fn event<const N: usize>(
    name: &str,
    told: [(&str, &str); N],
    context: &mut PublishContext<'_>,
) -> Bytes {
    let event = encode::Event {
        id: context.ids.next_id(),
        request_id: "",
        name,
        attributes_json: &encode::attributes_json(told),
        sent: context.now.unix,
    };
    let mut frame = BytesMut::with_capacity(event.bytes_max());
    encode::event(&mut frame, &event);
    frame.freeze()
}

/// Attributes that tell the sender that its message is held.
fn marked(attributes_json: &str) -> String {
    let mut all: Map<String, Value> = serde_json::from_str(attributes_json).unwrap_or_default();
    all.insert(IS_HELD.to_owned(), "1".into());
    Value::from(all).to_string()
}
