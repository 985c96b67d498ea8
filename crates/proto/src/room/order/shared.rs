//! A room of a cluster: its frames are encoded apart from its log, and enter it once they are
//! committed.

use bytes::BytesMut;

use super::{NewMessage, Room};
use crate::base::clock::UnixTime;
use crate::base::id::FrameId;
use crate::chat::encode;
use crate::ws::Deflater;

/// An event to encode; its texts are unescaped unless named JSON.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// `EventName`.
    pub name: &'a str,
    /// The attributes as a JSON object.
    pub attributes_json: &'a str,
    /// The sender's own id for the request; empty if none.
    pub request_id: &'a str,
}

impl Room {
    /// Encodes a message that is not in the room yet, at the end of `out`; returns its `SendTime`:
    /// `sent`, or that of the previous frame if that is later.
    pub fn author_message(
        &mut self,
        out: &mut BytesMut,
        id: FrameId,
        sent: UnixTime,
        new: NewMessage<'_>,
    ) -> UnixTime {
        let message = new.dated(id, self.stamp(sent));
        out.reserve(message.bytes_max());
        encode::message(out, &message);
        message.sent
    }

    /// Encodes an event that is not in the room yet, as [`Room::author_message`] does.
    pub fn author_event(
        &mut self,
        out: &mut BytesMut,
        id: FrameId,
        sent: UnixTime,
        new: NewEvent<'_>,
    ) -> UnixTime {
        let event = encode::Event {
            id,
            request_id: new.request_id,
            name: new.name,
            attributes_json: new.attributes_json,
            sent: self.stamp(sent),
        };
        out.reserve(event.bytes_max());
        encode::event(out, &event);
        event.sent
    }

    /// Appends a frame that the cluster's log orders, for all members: one copy, and a compressed
    /// encoding while members take it. No later frame of this room has an earlier time than `sent`.
    /// With `urgent` the next flush does not wait for the pace.
    pub fn adopt(&mut self, deflater: &mut Deflater, frame: &[u8], sent: UnixTime, urgent: bool) {
        self.append(deflater, frame.len(), |out| out.extend_from_slice(frame));
        self.said += 1;
        self.urgent |= urgent;
        self.saw(sent);
    }

    /// Appends an event of the server's own, for the members here: nobody said it, so that it counts for no rate, and it waits
    /// for the pace.
    pub fn tell(&mut self, deflater: &mut Deflater, frame: &[u8]) {
        self.append(deflater, frame.len(), |out| out.extend_from_slice(frame));
    }

    /// Notes a frame of the room that is not in its log here: no later one has an earlier time.
    pub fn saw(&mut self, sent: UnixTime) {
        self.last_sent = self.last_sent.max(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Now, Tick};
    use crate::base::id::FrameIds;
    use crate::room::order::EncodeContext;
    use crate::room::{ArchiveTargets, RoomSettings};

    fn room() -> Room {
        Room::new(RoomSettings {
            content_chars_max: 500,
            messages_per_second: 10,
            review: None,
            archive: ArchiveTargets::default(),
            extension: None,
        })
    }

    fn flushed(room: &mut Room) -> (Vec<u8>, Vec<u8>, u32) {
        let (mut plain, mut deflated, mut frames) = (Vec::new(), Vec::new(), 0);
        room.flush(Tick::default(), |batch| {
            plain.extend_from_slice(batch.plain.bytes());
            if let Some(piece) = &batch.deflated {
                deflated.extend_from_slice(piece.bytes());
            }
            frames += batch.frames;
        });
        (plain, deflated, frames)
    }

    /// Goal: viewers get the same bytes from a frame that was encoded elsewhere as from one that
    /// was encoded in the room's log, compressed or not. Method: post in one room; author and
    /// adopt in others.
    #[test]
    fn an_adopted_frame_is_the_posted_one() {
        let sent = UnixTime::from_secs(1_700_000_000);
        let new = NewMessage {
            content: &"chat ".repeat(30),
            attributes_json: "null",
            request_id: "r",
            sender_json: "{}",
        };
        let (mut here, mut home, mut there) = (room(), room(), room());
        here.set_deflated(true);
        there.set_deflated(true);
        let mut deflater = Deflater::default();
        let id = here.post(
            &mut EncodeContext {
                ids: &mut FrameIds::seeded(7),
                now: Now {
                    tick: Tick::default(),
                    unix: sent,
                },
                deflater: &mut deflater,
            },
            new,
        );
        let mut frame = BytesMut::new();
        let stamped = home.author_message(&mut frame, id, sent, new);
        assert_eq!(stamped, sent);
        assert!(home.is_flushed(), "authoring leaves the log alone");
        there.adopt(&mut deflater, &frame, stamped, false);
        let posted = flushed(&mut here);
        assert!(posted.1.len() < posted.0.len());
        assert_eq!(flushed(&mut there), posted);
        assert_eq!(there.last_sent(), sent);
    }

    /// Goal: a room whose home moves to a slower clock does not go back in time, and an urgent
    /// frame does not wait.
    #[test]
    fn times_follow_adopted_frames() {
        let (mut room, mut deflater) = (room(), Deflater::default());
        let (early, late) = (UnixTime::from_secs(1), UnixTime::from_secs(9));
        let event = NewEvent {
            name: "e",
            attributes_json: "{}",
            request_id: "",
        };
        let id = FrameIds::seeded(1).next_id();
        let mut frame = BytesMut::new();
        assert_eq!(room.author_event(&mut frame, id, early, event), early);
        room.adopt(&mut deflater, &frame, late, false);
        let interval = std::time::Duration::from_secs(1);
        let due = room.flush_due(interval, Tick::default());
        assert_eq!(due, Some(Tick::default().after(interval)));
        room.adopt(&mut deflater, &frame, early, true);
        assert_eq!(
            room.flush_due(interval, Tick::default()),
            Some(Tick::default())
        );
        assert_eq!(room.author_event(&mut frame, id, early, event), late);
        room.saw(late.after(interval));
        assert_eq!(room.last_sent(), late.after(interval));
    }
}
