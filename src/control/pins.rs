//! Pinned messages: in the record of their room, so that they outlast everything.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::fault::{Fault, Thing};
use super::record::{PinRecord, RoomRecord};
use super::state::Control;
use crate::random;
use crate::shard::command::Refused;
use crate::shard::survey::Wanted;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::extension::pin::PinRequest;

/// Who pins, and whose message it is.
pub(super) struct Pinning<'a> {
    /// The moderator; empty: a back end.
    pub(super) by: &'a str,
    /// The message's sender, if that is told.
    pub(super) user: &'a str,
    /// Its attributes, if they are told.
    pub(super) attributes: Option<BTreeMap<String, String>>,
}

/// What a pinned message says.
#[derive(Default)]
struct PinnedMessage {
    text: String,
    user: String,
    attributes: BTreeMap<String, String>,
}

impl PinnedMessage {
    /// Reads the payload of a message.
    fn read(payload: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(payload).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let attributes = message["Attributes"].as_object().into_iter().flatten();
        Some(Self {
            text: text(&message["Content"])?,
            user: text(&message["Sender"]["UserId"])?,
            attributes: attributes
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
        })
    }
}

impl Control {
    /// Pins a message instead of the one before; returns what is stored of it.
    ///
    /// # Errors
    ///
    /// The room is gone or asks for nothing beyond IVS Chat, or the text of the message is not known.
    pub(super) async fn pin(
        self: &Rc<Self>,
        room: RoomId,
        asked: &PinRequest,
        of: Pinning<'_>,
    ) -> Result<PinRecord, Fault> {
        let remembered = match asked.id {
            Some(id) => self.remembered(room, id).await?,
            None => None,
        };
        let is_remembered = remembered.is_some();
        let said = remembered.unwrap_or_else(|| PinnedMessage {
            user: of.user.to_owned(),
            ..PinnedMessage::default()
        });
        // Whose it is the room knows better than who pins it, but not how it is to be put.
        let text = asked.text.as_deref().map(str::to_owned);
        let Some(text) = text.or(is_remembered.then_some(said.text)) else {
            let id = asked.id.map(|id| id.as_str().to_owned());
            return Err(Fault::missing(Thing::Message, id.unwrap_or_default()));
        };
        let id = match asked.id {
            Some(id) => id,
            None => FrameId::from_random(u128::from_ne_bytes(
                random::id_bytes().map_err(|_error| Fault::Internal)?,
            )),
        };
        let now_ms = self.clock.now().unix.millis();
        let pin = PinRecord {
            id: id.as_str().to_owned(),
            text,
            user: said.user,
            by: of.by.to_owned(),
            attributes: of.attributes.unwrap_or(said.attributes),
            until_ms: asked
                .seconds
                .map(|seconds| now_ms + 1000 * u64::from(seconds)),
        };
        let edited = self.registry.edit(room, |record: &mut RoomRecord| {
            if record.pin(pin.clone(), now_ms) {
                Ok(())
            } else {
                Err(Fault::conflict(&room.to_string(), UNTAGGED))
            }
        });
        let record = edited
            .await?
            .ok_or_else(|| Fault::not_found(&room.to_string()))?;
        self.note_ends(room);
        self.put_room(&record).await?;
        if is_remembered {
            self.check_pin(room, id).await?;
        }
        Ok(pin)
    }

    /// Takes the pin back if its message was taken back meanwhile. One that the room remembers now, with the pin in force, takes
    /// the pin with it when it goes.
    async fn check_pin(&self, room: RoomId, id: FrameId) -> Result<(), Fault> {
        self.registry.shards_have_all().await;
        let gone = match self.remembered(room, id).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => Fault::missing(Thing::Message, id.as_str().to_owned()),
            Err(fault) => fault,
        };
        self.unpin(room, Some(id.as_str())).await?;
        Err(gone)
    }

    /// A message that the room remembers; `None`: it does not.
    async fn remembered(&self, room: RoomId, id: FrameId) -> Result<Option<PinnedMessage>, Fault> {
        let wanted = Wanted::Message(id);
        let found = match self.gateway.remembered(room, wanted).await {
            Ok(found) => found,
            Err(Refused::NoSuchRoom) => return Ok(None),
            Err(_late) => return Err(Fault::Late),
        };
        Ok(found.first().and_then(|found| PinnedMessage::read(found)))
    }

    /// Takes the pin of a room back that is in this user's name, or, without one, in anybody's: before a purge is announced, so that
    /// nobody who comes behind it has it, and a crash leaves no text pinned that was taken back.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub(super) async fn unpin_of(&self, room: RoomId, user_id: Option<&str>) -> Result<(), Fault> {
        let pin = (self.registry.rooms.get(room)).and_then(|record| record.extension.pin);
        let is_his = |pin: &PinRecord| match user_id {
            Some(user_id) => pin.user == user_id,
            None => !pin.user.is_empty(),
        };
        match pin.filter(is_his) {
            Some(pin) => match self.unpin(room, Some(&pin.id)).await {
                Ok(_) | Err(Fault::NotFound { .. }) => Ok(()),
                Err(fault) => Err(fault),
            },
            None => Ok(()),
        }
    }

    /// Takes the pin of a room back; `only`: if it is this message. Whether it was pinned.
    ///
    /// # Errors
    ///
    /// The room is gone, or the disk refuses.
    pub(super) async fn unpin(&self, room: RoomId, only: Option<&str>) -> Result<bool, Fault> {
        let is_pinned = |record: RoomRecord| record.is_pinned(only);
        let record = self.registry.rooms.get(room);
        let record = record.ok_or_else(|| Fault::not_found(&room.to_string()))?;
        if !is_pinned(record) {
            return Ok(false);
        }
        let now_ms = self.clock.now().unix.millis();
        let edited = self.registry.edit(room, |record: &mut RoomRecord| {
            if record.is_pinned(only) {
                record.unpin(now_ms);
            }
            Ok(())
        });
        let record = edited
            .await?
            .ok_or_else(|| Fault::not_found(&room.to_string()))?;
        self.put_room(&record).await?;
        Ok(true)
    }
}

const UNTAGGED: &str =
    "The room has no tag uproar:…, so that its members are not told; uproar:state=on is enough";
