//! Pinned messages: in the record of their room, so that they outlast everything.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::fault::{Fault, Missing};
use super::record::{PinRecord, RoomRecord};
use super::state::Control;
use crate::random;
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
struct PinnedMessage {
    text: String,
    user: String,
    attributes: BTreeMap<String, String>,
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
        let said = match (&asked.text, asked.id) {
            (Some(text), _) => Some(PinnedMessage {
                text: text.to_string(),
                user: of.user.to_owned(),
                attributes: BTreeMap::new(),
            }),
            (None, Some(id)) => self.remembered(room, id).await,
            (None, None) => None,
        };
        let Some(said) = said else {
            let id = asked.id.map(|id| id.as_str().to_owned());
            return Err(Fault::missing(Missing::Message, id.unwrap_or_default()));
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
            text: said.text,
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
        self.put_room(&record).await?;
        if let Some(seconds) = asked.seconds {
            let control = Rc::clone(self);
            tokio::task::spawn_local(async move {
                sleep(Duration::from_secs(seconds.into())).await;
                control.lift(room).await;
            });
        }
        Ok(pin)
    }

    /// A message that the room remembers.
    async fn remembered(&self, room: RoomId, id: FrameId) -> Option<PinnedMessage> {
        let wanted = Wanted::Message(id);
        let found = self.gateway.remembered(room, wanted).await.ok()?;
        let message: Value = serde_json::from_slice(found.first()?).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let attributes = message["Attributes"].as_object().into_iter().flatten();
        Some(PinnedMessage {
            text: text(&message["Content"])?,
            user: text(&message["Sender"]["UserId"])?,
            attributes: attributes
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
        })
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
