//! A room's settings in force, and the event that tells its members of them.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::pin::Pin;
use super::settings::Settings;
use super::speech::Key;
use super::tags::TAGS;
use crate::base::clock::UnixTime;
use crate::base::id::{FrameId, RoomId};
use crate::chat::encode;

/// `EventName` of a room's state.
pub const ROOM: &str = "uproar:room";

/// What a room has beyond IVS Chat: a function of its record, so that all shards and all nodes of a cluster send the same
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The settings in force.
    pub settings: Settings,
    /// Number of their change, which grows.
    pub version: u64,
    /// The pinned message, and whose it is; of nobody's nothing.
    pub pinned: Option<(FrameId, Option<Key>)>,
    // The whole frame of the event.
    state: Bytes,
    // Frames that tell who joins of open tallies; empty in a room's own settings.
    tallies: Bytes,
}

impl Extension {
    /// The settings of `room`, and its pin, since their change of this number, at this time.
    pub fn new(
        room: RoomId,
        settings: Settings,
        pin: Option<&Pin>,
        (version, changed): (u64, UnixTime),
    ) -> Self {
        let state = frame(room, (&settings, pin), version, changed);
        Self {
            settings,
            version,
            pinned: pin.map(|pin| {
                let is_somebodys = !pin.user.is_empty();
                (pin.id, is_somebodys.then(|| Key::of_user(&pin.user)))
            }),
            state,
            tallies: Bytes::new(),
        }
    }

    /// The same with the frames of open tallies, for who joins.
    #[must_use]
    pub fn with_tallies(&self, tallies: Bytes) -> Self {
        Self {
            tallies,
            ..self.clone()
        }
    }

    /// The frames of open tallies.
    pub fn tallies(&self) -> &Bytes {
        &self.tallies
    }

    /// The frame that tells of the state; `None` if the room's members are not told.
    pub fn state(&self) -> Option<&Bytes> {
        (!self.settings.hides_state).then_some(&self.state)
    }

    /// The frame that tells that nothing of it is in force any more: the room has lost its last tag.
    pub fn farewell(&self, room: RoomId, now: UnixTime) -> Option<Bytes> {
        self.state()?;
        let version = self.version.saturating_add(1);
        Some(frame(room, (&Settings::default(), None), version, now))
    }
}

/// Encodes the event. Clients drop a frame whose `Id` they have seen: it stands for the room, the version and what is told.
fn frame(
    room: RoomId,
    (settings, pin): (&Settings, Option<&Pin>),
    version: u64,
    changed: UnixTime,
) -> Bytes {
    let version = version.to_string();
    let shown = TAGS
        .iter()
        .filter_map(|tag| Some((tag.shown_as?, tag.show(settings))));
    let shown: Vec<(&str, String)> = shown.chain(Pin::shown(pin)).collect();
    let shown = shown.iter().map(|(name, value)| (*name, &**value));
    let attributes = encode::attributes_json([("Version", &*version)].into_iter().chain(shown));
    let mut hash = Sha256::new();
    hash.update(room.as_bytes());
    hash.update(&attributes);
    let digest = hash.finalize();
    let bits = digest
        .first_chunk()
        .map_or(0, |bits| u128::from_be_bytes(*bits));
    let event = encode::Event {
        id: FrameId::from_random(bits),
        request_id: "",
        name: ROOM,
        attributes_json: &attributes,
        sent: changed,
    };
    let mut out = BytesMut::with_capacity(event.bytes_max());
    encode::event(&mut out, &event);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::tags;
    use crate::ws::payloads;

    fn room() -> RoomId {
        RoomId::parse("TC6fLHr7ycLt").expect("an id")
    }

    fn json(frame: &Bytes) -> serde_json::Value {
        let payload = payloads(frame).next().expect("one frame");
        serde_json::from_slice(payload).expect("JSON")
    }

    /// Goal: the frame as clients know it.
    #[test]
    fn the_state_is_an_event() {
        let settings = tags::settings([("uproar:slow", "10"), ("uproar:talk", "sub+vip")]);
        let settings = settings.expect("two tags");
        let changed = UnixTime::from_secs(1_755_150_520);
        let extension = Extension::new(room(), settings, None, (17, changed));
        let told = json(extension.state().expect("it is told"));
        assert_eq!(told["Type"], "EVENT");
        assert_eq!(told["EventName"], "uproar:room");
        assert_eq!(told["RequestId"], "");
        let wanted = serde_json::json!({
            "Version": "17", "Slow": "10", "Unique": "", "Talk": "sub+vip", "Age": "", "Emotes": "",
            "Pinned": "",
        });
        assert_eq!(told["Attributes"], wanted);
        assert!(FrameId::parse(told["Id"].as_str().expect("text")).is_some());
    }

    /// Goal: the same version has the same id wherever it is made, and another version another one, also if it goes back to
    /// what was before: clients drop ids that they have seen.
    #[test]
    fn ids_follow_versions() {
        let now = UnixTime::from_secs(1);
        let made = |version| Extension::new(room(), Settings::default(), None, (version, now));
        assert_eq!(made(1), made(1));
        let id = |extension: &Extension| json(extension.state().expect("told"))["Id"].clone();
        assert_ne!(id(&made(1)), id(&made(3)));
        let farewell = made(1).farewell(room(), now).expect("told");
        assert_eq!(json(&farewell), json(made(2).state().expect("told")));
    }

    /// Goal: a room whose state is kept from its members tells it neither while it has tags nor at their end.
    #[test]
    fn a_hidden_state_is_not_told() {
        let settings = tags::settings([("uproar:state", "off"), ("uproar:slow", "5")]);
        let now = UnixTime::from_secs(1);
        let extension = Extension::new(room(), settings.expect("two tags"), None, (1, now));
        assert_eq!(
            (extension.state(), extension.farewell(room(), now)),
            (None, None)
        );
    }

    /// Goal: a pin is told with the state, as it is to be read again: text that looks like JSON stays text.
    #[test]
    fn a_pin_is_in_the_state() {
        let pin = Pin {
            id: FrameId::parse("M2YcHkgffEvU").expect("an id"),
            text: "\",\"Slow\":\"9".into(),
            user: "alice".into(),
            by: "mod1".into(),
            attributes_json: r#"{"link":"example.com"}"#.into(),
            until: Some(UnixTime::from_secs(1_755_150_520)),
        };
        let now = UnixTime::from_secs(1);
        let extension = Extension::new(room(), Settings::default(), Some(&pin), (1, now));
        assert_eq!(
            extension.pinned,
            Some((pin.id, Some(Key::of_user("alice"))))
        );
        let told = json(extension.state().expect("told"));
        let told = &told["Attributes"];
        assert_eq!(
            (&told["Pinned"], &told["Slow"]),
            (&"M2YcHkgffEvU".into(), &"".into())
        );
        assert_eq!(told["PinnedText"], *pin.text);
        assert_eq!(
            (&told["PinnedUser"], &told["PinnedBy"]),
            (&"alice".into(), &"mod1".into())
        );
        assert_eq!(told["PinnedAttributes"], *pin.attributes_json);
        assert_eq!(told["PinnedUntil"], "2025-08-14T05:48:40Z");
        let without = Extension::new(room(), Settings::default(), None, (1, now));
        assert_ne!(without.state(), extension.state());
    }
}
