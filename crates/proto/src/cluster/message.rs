//! What nodes tell each other, at most once each: requests to a home, and its answers.
//!
//! A message may be lost, and arrive late or in any order with those of other senders. The log decides.

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Section, VERSION, put_bytes, put_section};
use super::{Epoch, Grant, HashSlot, Incarnation, Number, Quota, WireFault, Wish};
use crate::base::id::{FrameId, RoomId};
use crate::chat::ErrorCode;
use crate::extension::Speaker;
use crate::token::{Capabilities, Capability};

/// A message, and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its sender.
    pub from: Incarnation,
    /// What it says.
    pub content: MessageContent,
}

/// What a message says. Messages with an epoch are about one hash slot in it, and mean nothing in another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageContent {
    /// To a home: decide these.
    Requests {
        /// The rooms' hash slot.
        slot: HashSlot,
        /// The home's epoch.
        epoch: Epoch,
        /// The oldest request whose outcome the sender does not know.
        oldest: Number,
        /// Number of the first of `requests`; the others follow by one.
        first: Number,
        /// The requests; `None`: its sender has given this one up.
        requests: Vec<Option<Ask>>,
    },
    /// From a home: all requests below this are taken, this one is wanted.
    Have {
        /// The hash slot.
        slot: HashSlot,
        /// The home's epoch.
        epoch: Epoch,
        /// The number wanted.
        next: Number,
    },
    /// From a home: this request is refused.
    Refused {
        /// The hash slot.
        slot: HashSlot,
        /// The home's epoch.
        epoch: Epoch,
        /// The request.
        number: Number,
        /// Why.
        code: ErrorCode,
        /// The text for the client.
        text: Box<str>,
    },
    /// From one who is not the home: the log has an epoch that the addressee has not read.
    NotHome {
        /// The hash slot.
        slot: HashSlot,
        /// The newest epoch that the sender knows.
        epoch: Epoch,
    },
    /// Nobody takes messages for this process.
    Suspect {
        /// The process.
        incarnation: Incarnation,
    },
    /// To a home: hand this hash slot over, since an operator asks for it.
    Move {
        /// The hash slot.
        slot: HashSlot,
        /// Who gets it.
        to: Incarnation,
    },
    /// Hash slots that an operator moved are free to move again.
    Balance,
    /// To the home of hash slot 0, which keeps the account's budgets.
    Draw {
        /// The home's epoch.
        epoch: Epoch,
        /// Comes back with the answer.
        number: u64,
        /// What its sender would like to have.
        wishes: Vec<Wish>,
    },
    /// Its answer to a draw.
    Grant {
        /// Number of the draw.
        number: u64,
        /// What the sender of the draw may grant.
        grants: Vec<Grant>,
    },
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AskKind {
    /// `SEND_MESSAGE`: texts are content, attributes as JSON, request id.
    SendMessage,
    /// `DELETE_MESSAGE`: texts are id, reason, request id.
    DeleteMessage,
    /// `DISCONNECT_USER`: texts are user id, reason, request id.
    DisconnectUser,
    /// An application event: texts are name, attributes as JSON, request id.
    Event,
    /// What is asked of the room's tallies, as JSON in the first text. It becomes no entry of the log: the home's answer is a
    /// refusal `NotAcceptable` whose text is JSON, too.
    Tally,
    /// All messages of a user are taken back: texts are user id, reason.
    Purge,
    /// All messages of the room are: texts are nothing, reason.
    Clear,
    /// A held message is decided: texts are its id, a reason, `allow` or `deny`, and who decides. If it is allowed, it becomes
    /// this request's frame, with its own id.
    Decide,
    /// A page of the messages that wait for a moderator: texts are the token of the page before, and how many. As of
    /// [`AskKind::Tally`], the answer is a refusal.
    Held,
    /// Shows that the path through the home and the log works; answered by the engine, no room gets it.
    Probe,
}

/// A request about a room, which the room's home decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The room.
    pub room: RoomId,
    /// Id of the frame that it becomes.
    pub id: FrameId,
    /// What it asks for.
    pub kind: AskKind,
    /// Whether it came by the API: rates of members do not apply.
    pub is_from_api: bool,
    /// What is known of the member who makes it, beside `Sender`.
    pub speaker: Speaker,
    /// Whether a message of the API passes what its room asks of its members' messages: no review decides. Of an event: it
    /// can wait for the pace; of a disconnect: it tells of a ban, and bans nobody itself.
    pub is_exempt: bool,
    /// Its texts.
    pub texts: AskTexts,
}

/// Number of texts of a request.
const TEXTS: usize = 5;

/// The texts of a request, in one buffer: subject, detail, request id, sender as JSON, the sender's address (empty
/// unless the room is reviewed).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskTexts {
    // Invariant: UTF-8, and each text is.
    text: Bytes,
    // Where each of them but the last ends, in order.
    ends: [u32; TEXTS - 1],
}

impl AskTexts {
    /// Copies the texts into `buffer`, whose content is dropped, and cuts them off: a reused buffer
    /// allocates for many requests at once.
    ///
    /// # Panics
    ///
    /// If they are 4 GiB long: a request is far below.
    pub fn new(buffer: &mut BytesMut, texts: [&str; TEXTS]) -> Self {
        buffer.clear();
        buffer.reserve(texts.iter().map(|text| text.len()).sum());
        let [a, b, c, d, last] = texts;
        let ends = [a, b, c, d].map(|text| {
            buffer.extend_from_slice(text.as_bytes());
            u32::try_from(buffer.len()).expect("a request is far below 4 GiB")
        });
        buffer.extend_from_slice(last.as_bytes());
        let text = buffer.split().freeze();
        Self { text, ends }
    }

    /// Returns the texts in order.
    pub fn get(&self) -> [&str; TEXTS] {
        let mut rest = std::str::from_utf8(&self.text).unwrap_or_default();
        let mut start = 0;
        let mut found = [""; TEXTS];
        for (place, end) in found.iter_mut().zip(self.ends) {
            let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            start = end;
            (*place, rest) = rest.split_at_checked(len).unwrap_or_default();
        }
        let [.., last] = &mut found;
        *last = rest;
        found
    }

    /// Returns the bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for end in self.ends {
            out.put_u32_le(end);
        }
        put_bytes(out, &self.text);
    }

    fn read(section: &mut Section<'_>) -> Result<Self, WireFault> {
        let mut ends = [0; TEXTS - 1];
        for end in &mut ends {
            *end = section.u32()?;
        }
        let text = section.bytes()?;
        let valid = std::str::from_utf8(&text).map_err(|_| WireFault::Value("a text"))?;
        let is_end = |end: &u32| usize::try_from(*end).is_ok_and(|end| valid.is_char_boundary(end));
        if ends.is_sorted() && ends.iter().all(is_end) {
            Ok(Self { text, ends })
        } else {
            Err(WireFault::Value("the ends of texts"))
        }
    }
}

const WITHDRAWN: u8 = 0;

impl AskKind {
    const ALL: [Self; 10] = [
        Self::SendMessage,
        Self::DeleteMessage,
        Self::DisconnectUser,
        Self::Event,
        Self::Probe,
        Self::Tally,
        Self::Purge,
        Self::Clear,
        Self::Decide,
        Self::Held,
    ];

    const fn byte(self) -> u8 {
        match self {
            Self::SendMessage => 1,
            Self::DeleteMessage => 2,
            Self::DisconnectUser => 3,
            Self::Event => 4,
            Self::Probe => 5,
            // Those between may be given to others.
            Self::Tally => 9,
            Self::Decide => 10,
            Self::Held => 11,
            Self::Purge => 6,
            Self::Clear => 7,
        }
    }

    fn read(byte: u8) -> Result<Self, WireFault> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|kind| kind.byte() == byte);
        found.ok_or(WireFault::Value("a request's kind"))
    }
}

/// Bytes of a request without its texts, where it is written.
const ASK_BYTES: usize = 4 + 1 + 12 + 12 + 1 + 16 + 4 + SPEAKER_BYTES;
/// Bytes of a request's speaker, behind its texts: capabilities, role, time, shadow. Older servers write fewer or none.
pub const SPEAKER_BYTES: usize = 1 + 1 + 8 + 1;

impl Ask {
    /// Returns how many bytes it takes in a message.
    pub(super) fn bytes(&self) -> usize {
        ASK_BYTES + self.texts.bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind.byte());
        out.extend_from_slice(self.room.as_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.put_u8(u8::from(self.is_from_api) | u8::from(self.is_exempt) << 1);
        self.texts.write(out);
        // Older servers read no further.
        out.put_u8(self.speaker.capabilities.bits());
        out.put_u8(self.speaker.has_exempt_role.into());
        out.put_u64_le(self.speaker.since);
        out.put_u8(self.speaker.is_shadowed.into());
    }

    fn read(section: &mut Section<'_>) -> Result<Option<Self>, WireFault> {
        let kind = match section.u8()? {
            WITHDRAWN => return Ok(None),
            byte => AskKind::read(byte)?,
        };
        let room = RoomId::from_bytes(&section.array()?).ok_or(WireFault::Value("a room id"))?;
        let id = FrameId::from_bytes(&section.array()?).ok_or(WireFault::Value("a frame id"))?;
        let origin = section.u8()?;
        Ok(Some(Self {
            room,
            id,
            kind,
            // A server before this one reads any bit as the first.
            is_from_api: origin != 0,
            is_exempt: origin & 2 != 0,
            texts: AskTexts::read(section)?,
            speaker: read_speaker(section)?,
        }))
    }
}

/// Reads a request's speaker; an older server says nothing of it.
fn read_speaker(section: &mut Section<'_>) -> Result<Speaker, WireFault> {
    if section.is_empty() {
        return Ok(Speaker::default());
    }
    // A newer server may know further ones.
    let known = Capability::ALL.into_iter().collect::<Capabilities>().bits();
    let capabilities = Capabilities::from_bits(section.u8()? & known);
    Ok(Speaker {
        capabilities: capabilities.unwrap_or_default(),
        has_exempt_role: section.u8()? != 0,
        since: section.u64()?,
        // Older servers keep a shadow's messages to themselves.
        is_shadowed: !section.is_empty() && section.u8()? != 0,
    })
}

const REQUESTS: u8 = 1;
const HAVE: u8 = 2;
const REFUSED: u8 = 3;
const NOT_HOME: u8 = 4;
const SUSPECT: u8 = 5;
const MOVE: u8 = 6;
const BALANCE: u8 = 7;
const DRAW: u8 = 8;
const GRANT: u8 = 9;

impl Message {
    /// Encodes it; one allocation.
    pub fn encode(&self) -> Bytes {
        let requests = match &self.content {
            MessageContent::Requests { requests, .. } => &**requests,
            MessageContent::Have { .. }
            | MessageContent::Refused { .. }
            | MessageContent::NotHome { .. }
            | MessageContent::Suspect { .. }
            | MessageContent::Move { .. }
            | MessageContent::Balance
            | MessageContent::Draw { .. }
            | MessageContent::Grant { .. } => &[],
        };
        let bytes = |ask: &Option<Ask>| ask.as_ref().map_or(ASK_BYTES, Ask::bytes);
        let mut out = Vec::with_capacity(128 + requests.iter().map(bytes).sum::<usize>());
        out.put_u8(VERSION);
        out.put_u8(self.content.kind());
        put_section(&mut out, |out| {
            out.put_u64_le(self.from.bits());
            self.content.write_head(out);
        });
        for request in requests {
            put_section(&mut out, |out| match request {
                Some(ask) => ask.write(out),
                None => out.put_u8(WITHDRAWN),
            });
        }
        out.into()
    }

    /// Reads one; texts are slices of `payload`.
    ///
    /// # Errors
    ///
    /// [`WireFault`]: what is wrong with it. Its sender sends it again where that matters.
    pub fn decode(payload: &Bytes) -> Result<Self, WireFault> {
        let mut section = Section::versioned(payload)?;
        let kind = section.u8()?;
        let mut head = section.section()?;
        let from = Incarnation::new(head.u64()?);
        let content = MessageContent::read(kind, &mut head, &mut section)?;
        Ok(Self { from, content })
    }
}

impl MessageContent {
    const fn kind(&self) -> u8 {
        match self {
            Self::Requests { .. } => REQUESTS,
            Self::Have { .. } => HAVE,
            Self::Refused { .. } => REFUSED,
            Self::NotHome { .. } => NOT_HOME,
            Self::Suspect { .. } => SUSPECT,
            Self::Move { .. } => MOVE,
            Self::Balance => BALANCE,
            Self::Draw { .. } => DRAW,
            Self::Grant { .. } => GRANT,
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        match self {
            Self::Requests {
                slot,
                epoch,
                oldest,
                first,
                requests: _,
            } => {
                put_slot(out, *slot, *epoch);
                out.put_u64_le(oldest.0);
                out.put_u64_le(first.0);
            }
            Self::Have { slot, epoch, next } => {
                put_slot(out, *slot, *epoch);
                out.put_u64_le(next.0);
            }
            Self::Refused {
                slot,
                epoch,
                number,
                code,
                text,
            } => {
                put_slot(out, *slot, *epoch);
                out.put_u64_le(number.0);
                out.put_u16_le(code.number());
                put_bytes(out, text.as_bytes());
            }
            Self::NotHome { slot, epoch } => put_slot(out, *slot, *epoch),
            Self::Suspect { incarnation } => out.put_u64_le(incarnation.bits()),
            Self::Move { slot, to } => {
                out.put_u8(slot.number());
                out.put_u64_le(to.bits());
            }
            Self::Balance => {}
            Self::Draw {
                epoch,
                number,
                wishes,
            } => {
                out.put_u64_le(epoch.0);
                out.put_u64_le(*number);
                put_count(out, wishes.len());
                for wish in wishes {
                    put_wish(out, wish);
                }
            }
            Self::Grant { number, grants } => {
                out.put_u64_le(*number);
                put_count(out, grants.len());
                for (quota, count) in grants {
                    out.put_u8(quota.number());
                    out.put_u32_le(*count);
                }
            }
        }
    }

    fn read(kind: u8, head: &mut Section<'_>, rest: &mut Section<'_>) -> Result<Self, WireFault> {
        let slot = |head: &mut Section<'_>| head.u8().map(HashSlot::new);
        let epoch = |head: &mut Section<'_>| head.u64().map(Epoch);
        let number = |head: &mut Section<'_>| head.u64().map(Number);
        Ok(match kind {
            REQUESTS => Self::Requests {
                slot: slot(head)?,
                epoch: epoch(head)?,
                oldest: number(head)?,
                first: number(head)?,
                requests: {
                    let mut requests = Vec::new();
                    while !rest.is_empty() {
                        requests.push(Ask::read(&mut rest.section()?)?);
                    }
                    requests
                },
            },
            HAVE => Self::Have {
                slot: slot(head)?,
                epoch: epoch(head)?,
                next: number(head)?,
            },
            REFUSED => Self::Refused {
                slot: slot(head)?,
                epoch: epoch(head)?,
                number: number(head)?,
                code: {
                    let code = head.u16()?;
                    ErrorCode::from_number(code).ok_or(WireFault::Value("an error code"))?
                },
                text: head.text()?.into(),
            },
            NOT_HOME => Self::NotHome {
                slot: slot(head)?,
                epoch: epoch(head)?,
            },
            SUSPECT => Self::Suspect {
                incarnation: Incarnation::new(head.u64()?),
            },
            MOVE => Self::Move {
                slot: slot(head)?,
                to: Incarnation::new(head.u64()?),
            },
            BALANCE => Self::Balance,
            DRAW => Self::Draw {
                epoch: epoch(head)?,
                number: head.u64()?,
                wishes: read_all(head, read_wish)?,
            },
            GRANT => Self::Grant {
                number: head.u64()?,
                grants: read_all(head, read_grant)?,
            },
            other => return Err(WireFault::Kind(other)),
        })
    }
}

fn put_slot(out: &mut Vec<u8>, slot: HashSlot, epoch: Epoch) {
    out.put_u8(slot.number());
    out.put_u64_le(epoch.0);
}

fn put_count(out: &mut Vec<u8>, budgets: usize) {
    out.put_u16_le(u16::try_from(budgets).expect("at most 256 budgets"));
}

fn read_all<T>(
    head: &mut Section<'_>,
    read: impl Fn(&mut Section<'_>) -> Result<T, WireFault>,
) -> Result<Vec<T>, WireFault> {
    (0..head.u16()?).map(|_| read(head)).collect()
}

fn read_grant(head: &mut Section<'_>) -> Result<Grant, WireFault> {
    Ok((Quota::from_number(head.u8()?), head.u32()?))
}

fn put_wish(out: &mut Vec<u8>, wish: &Wish) {
    out.put_u8(wish.quota.number());
    out.put_u32_le(wish.per_second);
    out.put_u32_le(wish.spent);
    out.put_u32_le(wish.wanted);
}

fn read_wish(head: &mut Section<'_>) -> Result<Wish, WireFault> {
    let wish = Wish {
        quota: Quota::from_number(head.u8()?),
        per_second: head.u32()?,
        spent: head.u32()?,
        wanted: head.u32()?,
    };
    // `Rate` is at least one a second.
    if wish.per_second == 0 {
        return Err(WireFault::Value("a rate"));
    }
    Ok(wish)
}
