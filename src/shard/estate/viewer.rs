//! The record of one viewer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::carried::SenderTag;
use uproar_proto::base::admission::Share;
use uproar_proto::base::clock::{Shift, Tick};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ESTATE_RECORD_BYTES_MAX, SEND_BYTES_MAX};
use uproar_proto::extension::Traits;
use uproar_proto::session::{NotReplayable, Session};
use uproar_proto::tagged::{Fault, Fields, Tagged};

// The fields of a record. Instants are ticks of the process that writes them, in nanoseconds.
/// The room's id; left out once the viewer has left it.
const ROOM: u32 = 1;
/// The fields of its session.
const SESSION: u32 = 2;
/// Its address: four bytes or sixteen.
const ADDRESS: u32 = 3;
/// When the kernel last took bytes, or the pending send began.
const PROGRESS: u32 = 4;
/// When its deadlines are checked next.
const NEXT_CHECK: u32 = 5;
/// Frames of the room that it has not been sent; left out if there are none.
pub(in crate::shard) const BEHIND: u32 = 6;
/// The shard it is on, and its key there.
const TAG_SHARD: u32 = 7;
const TAG_KEY: u32 = 8;
/// Present in a closing handshake: until when it may last.
const CLOSE_DEADLINE: u32 = 9;
/// Present in a closing handshake whose Close frame the client must still answer.
const CLOSE_AWAITED: u32 = 10;
/// The unsent rest of its last send.
const REST: u32 = 11;
/// Frames for it alone, in order.
const LANE: u32 = 12;
/// The answer to its newest ping.
const PONG: u32 = 13;
/// Its Close frame, and how many frames of the room follow the point that it must not overtake.
const CLOSE_FRAME: u32 = 14;
const CLOSE_BEHIND: u32 = 15;

/// Its session, and what its records are sealed with. A version that knows no such viewers misses [`SESSION`] and refuses
/// them, instead of sending them what is not sealed.
const SEALED: u32 = 16;
/// What its token tells the server of its user; left out if that is nothing.
const TRAITS: u32 = 17;
/// When it was admitted; older versions left it out.
const BEGAN: u32 = 18;

/// How many bytes of [`REST`] end the frame that has begun; left out where the rest is not known to be frames, and by older
/// versions.
const BEGUN_LEFT: u32 = 19;
/// How many bytes at the end of [`LANE`] are remembered frames of the room; left out if none are, and by older versions.
const REPLAY_BYTES: u32 = 20;

/// Within [`SEALED`], beside [`SESSION`].
const TLS: u32 = 1;

/// Connections of a frozen shard, each with its record.
pub type Viewers<'a, F> = Vec<(&'a F, Vec<u8>)>;

/// A viewer that another process hands over.
#[derive(Debug)]
pub struct Inherited<S> {
    /// Its socket.
    pub socket: S,
    /// Its record, as `Core::viewers` made it.
    pub record: Vec<u8>,
    /// Its share of the limit on its address, as the acceptor of this process counts it.
    pub share: Option<Share>,
}

impl<S> Inherited<S> {
    /// Returns the viewer's address, whose share is counted anew; `None`: the record has none, and
    /// will be refused.
    pub fn ip(&self) -> Option<IpAddr> {
        let record = Tagged::parse(&self.record).ok()?;
        address(record)
    }
}

/// A viewer as one process writes it and another one reads it.
#[derive(Debug)]
pub(in crate::shard) struct Viewer<'a> {
    /// Its room; `None` once it has left.
    pub room: Option<RoomId>,
    /// Its address.
    pub ip: IpAddr,
    /// When it was admitted, if that is known.
    pub began: Option<Tick>,
    /// See [`PROGRESS`].
    pub progress: Tick,
    /// See [`NEXT_CHECK`].
    pub next_check: Tick,
    /// Frames it has not been sent.
    pub behind: u64,
    /// Where it was.
    pub tag: SenderTag,
    /// Its closing handshake: the deadline, and whether the client's Close frame is awaited.
    pub closing: Option<(Tick, bool)>,
    /// The rest of its last send, at most [`SEND_BYTES_MAX`] bytes.
    pub rest: &'a [u8],
    /// See [`BEGUN_LEFT`].
    pub begun_left: Option<usize>,
    /// Frames for it alone.
    pub lane: &'a [u8],
    /// Remembered frames of the room that follow them.
    pub replay: &'a [u8],
    /// The answer to its newest ping.
    pub pong: &'a [u8],
    /// Its Close frame, and the frames of the room after the frame's place.
    pub close: Option<(&'a [u8], u64)>,
    /// What its records are sealed with; empty: they are not.
    pub tls: &'a [u8],
    /// See [`TRAITS`].
    pub traits: Option<Box<Traits>>,
}

impl Viewer<'_> {
    /// Writes the record.
    ///
    /// # Errors
    ///
    /// As [`Session::carry`].
    pub(in crate::shard) fn write(&self, session: &Session) -> Result<Vec<u8>, NotReplayable> {
        let mut fields = Fields::default();
        if let Some(room) = self.room {
            fields.bytes(ROOM, room.as_bytes());
        }
        let mut carried = Ok(());
        let mut session = |fields: &mut Fields| {
            fields.nested(SESSION, |inner| carried = session.carry(inner));
        };
        if self.tls.is_empty() {
            session(&mut fields);
        } else {
            fields.nested(SEALED, |inner| {
                inner.bytes(TLS, self.tls);
                session(inner);
            });
        }
        carried?;
        match self.ip {
            IpAddr::V4(ip) => fields.bytes(ADDRESS, &ip.octets()),
            IpAddr::V6(ip) => fields.bytes(ADDRESS, &ip.octets()),
        }
        if let Some(began) = self.began {
            fields.number(BEGAN, began.nanos());
        }
        fields.number(PROGRESS, self.progress.nanos());
        fields.number(NEXT_CHECK, self.next_check.nanos());
        fields.number(TAG_SHARD, self.tag.shard);
        fields.number(TAG_KEY, self.tag.key);
        if self.behind > 0 {
            fields.number(BEHIND, self.behind);
        }
        if let Some(traits) = &self.traits {
            fields.nested(TRAITS, |inner| traits.carry(inner));
        }
        if let Some((deadline, awaited)) = self.closing {
            fields.number(CLOSE_DEADLINE, deadline.nanos());
            if awaited {
                fields.bytes(CLOSE_AWAITED, &[]);
            }
        }
        let own = [self.lane, self.replay].concat();
        for (number, bytes) in [(REST, self.rest), (LANE, &own), (PONG, self.pong)] {
            if !bytes.is_empty() {
                fields.bytes(number, bytes);
            }
        }
        let replay_bytes = (!self.replay.is_empty()).then_some(self.replay.len());
        for (number, count) in [(BEGUN_LEFT, self.begun_left), (REPLAY_BYTES, replay_bytes)] {
            if let Some(count) = count {
                fields.number(number, u64::try_from(count).expect("of memory"));
            }
        }
        if let Some((frame, behind)) = self.close {
            fields.bytes(CLOSE_FRAME, frame);
            fields.number(CLOSE_BEHIND, behind);
        }
        Ok(fields.into_bytes())
    }
}

impl<'a> Viewer<'a> {
    /// Reads a record, and the fields of its session. Ticks are `shift` away.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no viewer has.
    pub(in crate::shard) fn read(
        record: &'a [u8],
        shift: Shift,
    ) -> Result<(Self, Tagged<'a>), Fault> {
        if record.len() > ESTATE_RECORD_BYTES_MAX + SEND_BYTES_MAX {
            return Err(Fault::Value(LANE));
        }
        let fields = Tagged::parse(record)?;
        let sealed = fields.nested(SEALED)?;
        let room = fields.get(ROOM).map(room_id).transpose()?;
        let tick = |number| Ok(shift.tick(fields.need_number(number)?));
        let deadline = fields.number(CLOSE_DEADLINE)?;
        let awaited = fields.get(CLOSE_AWAITED).is_some();
        let closing = deadline.map(|nanos| (shift.tick(nanos), awaited));
        let (lane, replay) = own_frames(fields)?;
        let viewer = Self {
            room,
            ip: address(fields).ok_or(Fault::Value(ADDRESS))?,
            began: fields.number(BEGAN)?.map(|nanos| shift.tick(nanos)),
            progress: tick(PROGRESS)?,
            next_check: tick(NEXT_CHECK)?,
            behind: fields.number(BEHIND)?.unwrap_or(0),
            tag: SenderTag {
                shard: fields.need_number(TAG_SHARD)?,
                key: fields.need_number(TAG_KEY)?,
            },
            closing,
            rest: fields.get(REST).unwrap_or_default(),
            begun_left: count(fields, BEGUN_LEFT)?,
            lane,
            replay,
            pong: fields.get(PONG).unwrap_or_default(),
            close: match fields.get(CLOSE_FRAME) {
                Some(frame) => Some((frame, fields.number(CLOSE_BEHIND)?.unwrap_or(0))),
                None => None,
            },
            traits: traits(fields)?,
            tls: match sealed {
                Some(sealed) => sealed.get(TLS).ok_or(Fault::Missing(TLS))?,
                None => &[],
            },
        };
        // Who has left its room is closing, and so is who gets a Close frame.
        let must_close = viewer.room.is_none() || viewer.close.is_some();
        if must_close && viewer.closing.is_none() {
            return Err(Fault::Missing(CLOSE_DEADLINE));
        }
        if viewer.room.is_none() && viewer.close.is_none() && viewer.rest.is_empty() {
            return Err(Fault::Missing(ROOM));
        }
        if viewer.rest.len() > SEND_BYTES_MAX {
            return Err(Fault::Value(REST));
        }
        let session = sealed.unwrap_or(fields).nested(SESSION)?;
        let session = session.ok_or(Fault::Missing(SESSION))?;
        Ok((viewer, session))
    }
}

/// Returns the frames for the viewer alone, and the remembered ones that follow them.
fn own_frames(record: Tagged<'_>) -> Result<(&[u8], &[u8]), Fault> {
    let all = record.get(LANE).unwrap_or_default();
    let replay_bytes = count(record, REPLAY_BYTES)?.unwrap_or(0);
    let lane_bytes = all.len().checked_sub(replay_bytes);
    let parts = lane_bytes.and_then(|bytes| all.split_at_checked(bytes));
    parts.ok_or(Fault::Value(REPLAY_BYTES))
}

fn count(record: Tagged<'_>, number: u32) -> Result<Option<usize>, Fault> {
    let count = record.number(number)?.map(usize::try_from);
    count.transpose().map_err(|_| Fault::Value(number))
}

/// Returns what a record says of the user.
fn traits(record: Tagged<'_>) -> Result<Option<Box<Traits>>, Fault> {
    let fields = record.nested(TRAITS)?;
    let traits = fields.map(Traits::inherit).transpose()?;
    Ok(traits.map(Box::new))
}

/// Returns the address in a record.
fn address(record: Tagged<'_>) -> Option<IpAddr> {
    let bytes = record.get(ADDRESS)?;
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

fn room_id(bytes: &[u8]) -> Result<RoomId, Fault> {
    let room = bytes.try_into().ok().and_then(RoomId::from_bytes);
    room.ok_or(Fault::Value(ROOM))
}
