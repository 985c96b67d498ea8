//! What the control thread has to do still when another process takes its place: acts that follow from what was said, and
//! reviews of messages that are said already. Nobody who asked is waiting for them, so nobody would ask again.

use bytes::BytesMut;

use super::SenderTag;
use super::rooms::{Decided, PendingMessage};
use crate::shard::command::{MemberOrder, PublishRequest, SenderAddress};
use crate::shard::review::ReviewRequest;
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::Request;
use uproar_proto::extension::Verb;
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::new_ban::{Cause, NewBan};
use uproar_proto::tagged::{Fault, Fields, Tagged};

// The fields, beside those of the rooms: an act, and a review; both repeated, in order.
const ACT: u32 = 7;
const REVIEW: u32 = 8;

// The fields of an act. It is a ban if it has a user, else a message's pin is taken back.
const ROOM: u32 = 1;
const USER: u32 = 2;
const MODE: u32 = 3;
/// Left out of a ban without an end.
const SECONDS: u32 = 4;
const REASON: u32 = 5;
/// Present if a rule asked for the ban; else a kick did.
const BY_RULE: u32 = 6;
const PINNED: u32 = 7;

// The fields of a review, beside [`ROOM`].
const FUNCTION: u32 = 2;
const MESSAGE: u32 = 3;

/// What is still to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Acts, in order.
    pub acts: Vec<Act>,
    /// Reviews after delivery, in order.
    pub reviews: Vec<AfterReview>,
}

/// What the server does by itself in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Where.
    pub room: RoomId,
    /// What.
    pub deed: Deed,
}

/// One thing that the server does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A user is banned, by a kick or a rule.
    Ban(NewBan),
    /// The pin is taken back of a message that was deleted.
    Unpin(FrameId),
}

/// A message that is said, and the function that is to review it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterReview {
    room: RoomId,
    id: FrameId,
    function: Box<str>,
    // Content, attributes, the request's id, sender, address.
    texts: [Box<str>; 5],
}

impl Act {
    /// The act that an order is; `None`: a member asked for it, and is told if it is not carried out.
    pub fn of(order: &MemberOrder) -> Option<Self> {
        if !order.sender_json.is_empty() {
            return None;
        }
        let deed = match &order.verb {
            Verb::Ban(ban) => Deed::Ban(ban.clone()),
            Verb::Unpin(Some(id)) => Deed::Unpin(*id),
            Verb::Unpin(None)
            | Verb::Set(_)
            | Verb::Pin(_)
            | Verb::Vote(_)
            | Verb::React(_)
            | Verb::Unban(_)
            | Verb::Purge { .. }
            | Verb::Clear(_)
            | Verb::Decide(_) => return None,
        };
        let room = order.room;
        Some(Self { room, deed })
    }

    /// The order that it is.
    pub fn order(self) -> MemberOrder {
        MemberOrder {
            room: self.room,
            sender: SenderAddress::NOWHERE,
            request_id: "".into(),
            sender_json: "".into(),
            verb: match self.deed {
                Deed::Ban(ban) => Verb::Ban(ban),
                Deed::Unpin(id) => Verb::Unpin(Some(id)),
            },
        }
    }

    fn write(&self, fields: &mut Fields) {
        fields.bytes(ROOM, self.room.as_bytes());
        match &self.deed {
            Deed::Ban(ban) => {
                fields.bytes(USER, ban.user_id.as_bytes());
                fields.bytes(MODE, ban.mode.name().as_bytes());
                if let Some(seconds) = ban.seconds {
                    fields.number(SECONDS, seconds.into());
                }
                fields.bytes(REASON, ban.reason.as_bytes());
                if ban.cause == Cause::Rule {
                    fields.bytes(BY_RULE, &[]);
                }
            }
            Deed::Unpin(id) => fields.bytes(PINNED, id.as_bytes()),
        }
    }

    fn read(fields: Tagged<'_>) -> Result<Self, Fault> {
        let room = room(fields)?;
        let deed = if fields.get(USER).is_some() {
            let seconds = fields.number(SECONDS)?.map(u32::try_from);
            Deed::Ban(NewBan {
                user_id: fields.need_text(USER)?.into(),
                mode: BanMode::parse(fields.need_text(MODE)?).ok_or(Fault::Value(MODE))?,
                seconds: seconds.transpose().map_err(|_| Fault::Value(SECONDS))?,
                reason: fields.need_text(REASON)?.into(),
                cause: match fields.get(BY_RULE) {
                    Some(_) => Cause::Rule,
                    None => Cause::Kick,
                },
            })
        } else {
            let id = FrameId::parse(fields.need_text(PINNED)?);
            Deed::Unpin(id.ok_or(Fault::Value(PINNED))?)
        };
        Ok(Self { room, deed })
    }
}

impl AfterReview {
    /// The review that a request asks for; `None`: it is one before delivery, which the room's home carries.
    pub fn of(request: &ReviewRequest) -> Option<Self> {
        let function = request.afterwards.clone()?;
        let message = request.publish_request.message();
        let texts = [
            message.content,
            message.attributes_json,
            message.request_id,
            message.sender_json,
            request.publish_request.ip(),
        ];
        Some(Self {
            room: request.room,
            id: request.id,
            function,
            texts: texts.map(Into::into),
        })
    }

    /// Asks for it anew, until then.
    pub fn request(self, deadline: Tick) -> ReviewRequest {
        let [content, attributes_json, request_id, sender_json, ip] = &self.texts;
        let message = Request::SendMessage {
            content,
            attributes_json,
            request_id,
        };
        let mut buffer = BytesMut::new();
        let nowhere = SenderAddress::NOWHERE;
        let said = PublishRequest::new(&mut buffer, &message, sender_json, ip, nowhere);
        ReviewRequest::afterwards((self.room, self.id), said, self.function, deadline)
    }

    fn write(&self, fields: &mut Fields) {
        fields.bytes(ROOM, self.room.as_bytes());
        fields.bytes(FUNCTION, self.function.as_bytes());
        let [content, attributes_json, request_id, sender_json, ip] = &self.texts;
        let message = PendingMessage {
            content,
            attributes_json,
            request_id,
            sender_json,
            ip,
            id: self.id,
            sent: UnixTime::default(),
            tag: SenderTag { shard: 0, key: 0 },
            // What nobody else got is not reviewed afterwards.
            is_shadowed: false,
            decided: Decided::Allowed(None),
        };
        fields.nested(MESSAGE, |fields| message.write(fields));
    }

    fn read(fields: Tagged<'_>) -> Result<Self, Fault> {
        let message = PendingMessage::read(fields.need(MESSAGE)?)?;
        let texts = [
            message.content,
            message.attributes_json,
            message.request_id,
            message.sender_json,
            message.ip,
        ];
        Ok(Self {
            room: room(fields)?,
            id: message.id,
            function: fields.need_text(FUNCTION)?.into(),
            texts: texts.map(Into::into),
        })
    }
}

impl Unfinished {
    /// Encodes it, to be put behind an estate of rooms.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut fields = Fields::default();
        for act in &self.acts {
            fields.nested(ACT, |fields| act.write(fields));
        }
        for review in &self.reviews {
            fields.nested(REVIEW, |fields| review.write(fields));
        }
        fields.into_bytes()
    }

    /// Reads it out of an estate of rooms. What is not understood is left out.
    ///
    /// # Errors
    ///
    /// [`Fault::Cut`] if the estate is no fields.
    pub fn read(estate: &[u8]) -> Result<Self, Fault> {
        let estate = Tagged::parse(estate)?;
        let all = |number| {
            let fields = estate.all(number).map(Tagged::parse);
            fields.flatten().collect::<Vec<_>>()
        };
        Ok(Self {
            acts: all(ACT).into_iter().flat_map(Act::read).collect(),
            reviews: all(REVIEW)
                .into_iter()
                .flat_map(AfterReview::read)
                .collect(),
        })
    }
}

fn room(fields: Tagged<'_>) -> Result<RoomId, Fault> {
    let id = fields.need(ROOM)?.try_into().ok();
    id.and_then(RoomId::from_bytes).ok_or(Fault::Value(ROOM))
}

#[cfg(test)]
mod tests {
    use super::super::rooms::{AccountUse, RoomsWriter};
    use super::super::{RoomsEstate, merge_rooms};
    use super::*;
    use uproar_proto::base::clock::Shift;

    /// Goal: acts and reviews cross behind the rooms; one that is not whole is left out, and costs the others nothing.
    #[test]
    fn what_is_unfinished_crosses() {
        let room = RoomId::from_random(1);
        let ban = |cause, seconds| NewBan {
            user_id: "bob \u{1f600}".into(),
            mode: BanMode::Timeout,
            seconds,
            reason: "".into(),
            cause,
        };
        let deeds = [
            Deed::Ban(ban(Cause::Kick, Some(600))),
            Deed::Unpin(FrameId::from_random(2)),
            Deed::Ban(ban(Cause::Rule, None)),
        ];
        let acts: Vec<Act> = deeds.map(|deed| Act { room, deed }).into();
        let of_order = |act: &Act| Act::of(&act.clone().order());
        assert_eq!(
            acts.iter().map(of_order).collect::<Option<Vec<_>>>(),
            Some(acts.clone())
        );
        let review = AfterReview {
            room,
            id: FrameId::from_random(3),
            function: "arn".into(),
            texts: ["text", "null", "r", "{\"UserId\":\"u\"}", "::1"].map(Into::into),
        };
        let request = review.clone().request(Tick::from_nanos(9));
        assert_eq!(request.deadline, Tick::from_nanos(9));
        assert_eq!(AfterReview::of(&request).as_ref(), Some(&review));
        let unfinished = Unfinished {
            acts,
            reviews: vec![review],
        };
        let rooms = RoomsWriter::new(AccountUse::default(), Tick::default());
        let mut estate = merge_rooms(&[rooms.into_bytes()], None).expect("an estate");
        let mut broken = Fields::default();
        broken.nested(ACT, |act| act.bytes(ROOM, b"x"));
        broken.nested(REVIEW, |review| review.bytes(ROOM, room.as_bytes()));
        estate.extend(broken.into_bytes());
        estate.extend(unfinished.clone().into_bytes());
        assert_eq!(Unfinished::read(&estate), Ok(unfinished));
        assert_eq!(Unfinished::read(b"\x07\x02x"), Err(Fault::Cut));
        assert!(RoomsEstate::parse(estate, Shift::default()).is_ok());
    }
}
