//! Decodes client frames from a byte stream, in place where possible.
//!
//! A whole, unfragmented frame inside the received buffer is unmasked in place. Anything else is
//! collected in an assembly that exists only until the message is complete, and grows with the
//! bytes that arrived, never with the length that a header claims. A message too large to keep is
//! skipped, up to a second bound.

#![expect(
    clippy::indexing_slicing,
    reason = "ends are asserted on entry, or are minima of what is there"
)]

use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::bounds::Bounds;
use super::deflate::Inflater;
use super::header::{Frame, HEADER_BYTES_MAX, admit, parse};
use super::item::{Item, Payload, Place, Span};
use super::mask::unmask;
use super::oversized::Oversized;
use super::utf8::Utf8;
use super::violation::Violation;
use crate::base::limits::PARSE_PADDING_BYTES;

/// The result of one step.
#[derive(Debug)]
pub struct Step {
    /// Number of received bytes consumed.
    pub consumed: usize,
    /// The item they completed, if any.
    pub item: Option<Item>,
}

/// One connection's decoder: one pointer while no frame or message is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    assembly: Option<Box<Assembly>>,
}

/// A message or frame that is still incomplete.
#[derive(Debug, Default)]
struct Assembly {
    // The first bytes of the next header, `head_len` of them; none while `frame` is present.
    head: [u8; HEADER_BYTES_MAX],
    head_len: usize,
    // The frame whose payload is arriving.
    frame: Option<Frame>,
    // The kind of the incomplete message, text or binary.
    message: Option<Data>,
    // The incomplete message is compressed.
    deflated: bool,
    // The incomplete message's unmasked payload so far, at most `Bounds::message_bytes_max`; or the
    // message that was handed out, and padding.
    bytes: Vec<u8>,
    // The check of a plain text in `bytes`.
    utf8: Utf8,
    // Replaces `bytes` and `utf8` once the message is too large for them.
    oversized: Option<Box<Oversized>>,
    // Number of the incomplete message's frames; 0 exactly if there is no such message.
    fragments: u32,
    // The payload of the control frame that is arriving, or of the last one; at most 125 bytes.
    control: Vec<u8>,
    // The message in `bytes` was handed out; it is dropped before the next.
    spent: bool,
}

impl Decoder {
    /// Takes at most one item from `buffer[start..end]`, the received bytes not consumed yet; the
    /// bytes after `end` are padding. Makes progress whenever `start < end`. Compressed messages
    /// need an `inflater`, which a connection passes always or never. [`Decoder::payload`] lends
    /// the item's payload until the next step.
    ///
    /// # Errors
    ///
    /// The stream is broken: no more items can be taken from it.
    ///
    /// # Panics
    ///
    /// If fewer than `PARSE_PADDING_BYTES` follow `end`.
    pub fn step(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        end: usize,
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
    ) -> Result<Step, Violation> {
        assert!(
            end + PARSE_PADDING_BYTES <= buffer.len(),
            "padding behind the received bytes"
        );
        if self
            .assembly
            .as_ref()
            .is_some_and(|assembly| assembly.is_spent())
        {
            self.assembly = None;
        }
        if self.assembly.is_none()
            && let Some((frame, header_len)) = parse(&buffer[start..end], inflater.is_some())?
        {
            let is_oversized = admit(&frame, None, 0, 0, bounds)?;
            let total = header_len + frame.len;
            if frame.is_final && total <= end - start && !is_oversized {
                let item = in_place(buffer, start + header_len, frame, bounds, inflater)?;
                return Ok(Step {
                    consumed: total,
                    item: Some(item),
                });
            }
        }
        self.assembly
            .get_or_insert_default()
            .step(&mut buffer[start..end], bounds, inflater)
    }

    /// Lends the payload of the item that the last step returned, from the buffer and the inflater
    /// of that step.
    ///
    /// # Panics
    ///
    /// If the item is older, or they are others.
    pub fn payload<'a>(
        &'a mut self,
        span: Span,
        buffer: &'a mut [u8],
        inflater: Option<&'a mut Inflater>,
    ) -> Payload<'a> {
        let memory = match span.place {
            Place::Received => buffer,
            Place::Message => &mut self.assembly.as_mut().expect(LENT).bytes[..],
            Place::Control => &mut self.assembly.as_mut().expect(LENT).control[..],
            Place::Inflater => inflater.expect(LENT).padded(),
        };
        Payload {
            padded: &mut memory[span.start..],
            len: span.len,
        }
    }

    /// Frees the memory of a message that was handed out. Call it when a received buffer is
    /// consumed.
    pub fn release(&mut self) {
        if self
            .assembly
            .as_ref()
            .is_some_and(|assembly| assembly.is_spent())
        {
            self.assembly = None;
        }
    }

    /// Returns the number of frames of the incomplete message that do not end it; 0 between two
    /// messages. A final frame that arrives in pieces is not counted: the network cuts the stream,
    /// not the client.
    pub(crate) fn fragments(&self) -> u32 {
        self.assembly.as_ref().map_or(0, |assembly| {
            let ends = |frame: &Frame| frame.is_final && matches!(frame.opcode, OpCode::Data(_));
            assembly.fragments - u32::from(assembly.frame.as_ref().is_some_and(ends))
        })
    }

    /// Whether the stream is at a message boundary without an incomplete frame.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.assembly
            .as_ref()
            .is_none_or(|assembly| assembly.is_spent())
    }
}

/// The promise of [`Decoder::payload`]'s callers.
const LENT: &str = "the item is the last step's";

impl Assembly {
    fn is_spent(&self) -> bool {
        self.message.is_none() && self.frame.is_none() && self.head_len == 0
    }

    fn step(
        &mut self,
        received: &mut [u8],
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
    ) -> Result<Step, Violation> {
        if std::mem::take(&mut self.spent) {
            self.bytes = Vec::new();
        }
        let mut consumed = 0;
        if self.frame.is_none() {
            consumed = self.take_head(received, bounds, inflater.is_some())?;
        }
        let Some(frame) = &mut self.frame else {
            return Ok(Step {
                consumed,
                item: None,
            });
        };
        debug_assert!(
            self.head_len == 0 && frame.received <= frame.len,
            "a header ends where its payload begins"
        );
        let wanted = frame.len - frame.received;
        let available = &mut received[consumed..];
        let taken = wanted.min(available.len());
        let chunk = &mut available[..taken];
        unmask(chunk, frame.mask, frame.received);
        frame.received += taken;
        consumed += taken;
        let (done, opcode) = (frame.received == frame.len, frame.opcode);
        match opcode {
            OpCode::Control(_) => self.control.extend_from_slice(chunk),
            OpCode::Data(_) => {
                if let Some(oversized) = &mut self.oversized {
                    oversized.feed(chunk, bounds)?;
                } else {
                    if self.message == Some(Data::Text) && !self.deflated {
                        self.utf8.check(chunk).map_err(|_| Violation::Utf8)?;
                    }
                    self.bytes.extend_from_slice(chunk);
                }
            }
        }
        if !done {
            return Ok(Step {
                consumed,
                item: None,
            });
        }
        let item = self.finish(bounds, inflater)?;
        Ok(Step { consumed, item })
    }

    /// Collects the header; returns how many of `received` it used.
    fn take_head(
        &mut self,
        received: &[u8],
        bounds: &Bounds,
        deflate: bool,
    ) -> Result<usize, Violation> {
        let before = self.head_len;
        let taken = (HEADER_BYTES_MAX - before).min(received.len());
        self.head[before..before + taken].copy_from_slice(&received[..taken]);
        self.head_len += taken;
        let Some((frame, header_len)) = parse(&self.head[..self.head_len], deflate)? else {
            return Ok(taken);
        };
        let oversized = self.oversized.as_ref();
        let arrived = oversized.map_or(self.bytes.len(), |oversized| oversized.arrived());
        let is_oversized = admit(&frame, self.message, arrived, self.fragments, bounds)?;
        self.head_len = 0;
        self.control.clear();
        if let OpCode::Data(data) = frame.opcode {
            self.fragments += 1;
            if data != Data::Continue {
                self.message = Some(data);
                self.deflated = frame.deflated;
            }
            if is_oversized && self.oversized.is_none() {
                let text = self.message == Some(Data::Text);
                let mut oversized = Oversized::new(text, self.deflated, bounds);
                oversized.feed(&std::mem::take(&mut self.bytes), bounds)?;
                self.oversized = Some(Box::new(oversized));
            }
        }
        self.frame = Some(frame);
        Ok(header_len - before)
    }

    /// Handles a complete frame.
    fn finish(
        &mut self,
        bounds: &Bounds,
        inflater: Option<&mut Inflater>,
    ) -> Result<Option<Item>, Violation> {
        let frame = self.frame.take().expect("step has a frame");
        let control = match frame.opcode {
            OpCode::Control(control) => control,
            OpCode::Data(_) if !frame.is_final => return Ok(None),
            OpCode::Data(_) => {
                let kind = self.message.take();
                self.fragments = 0;
                if let Some(oversized) = self.oversized.take() {
                    self.utf8 = Utf8::default();
                    self.deflated = false;
                    self.spent = true;
                    let scan = oversized.finish(bounds)?;
                    return Ok(Some(Item::Oversized(Box::new(scan))));
                }
                if !std::mem::take(&mut self.utf8).is_complete() {
                    return Err(Violation::Utf8);
                }
                self.spent = true;
                let text = kind == Some(Data::Text);
                if std::mem::take(&mut self.deflated) {
                    return inflate(&self.bytes, text, bounds, inflater).map(Some);
                }
                let len = self.bytes.len();
                self.bytes.resize(len + PARSE_PADDING_BYTES, 0);
                let span = Span {
                    place: Place::Message,
                    start: 0,
                    len,
                };
                return Ok(Some(message_item(text, span)));
            }
        };
        let span = Span {
            place: Place::Control,
            start: 0,
            len: self.control.len(),
        };
        control_item(control, &self.control, span).map(Some)
    }
}

/// Takes an unfragmented frame that is whole in `buffer` at `start`.
fn in_place(
    buffer: &mut [u8],
    start: usize,
    frame: Frame,
    bounds: &Bounds,
    inflater: Option<&mut Inflater>,
) -> Result<Item, Violation> {
    let span = Span {
        place: Place::Received,
        start,
        len: frame.len,
    };
    let payload = &mut buffer[start..start + frame.len];
    unmask(payload, frame.mask, 0);
    match frame.opcode {
        OpCode::Control(control) => control_item(control, payload, span),
        OpCode::Data(kind) if frame.deflated => {
            inflate(payload, kind == Data::Text, bounds, inflater)
        }
        OpCode::Data(Data::Text) => {
            if std::str::from_utf8(payload).is_err() {
                return Err(Violation::Utf8);
            }
            Ok(Item::Text(span))
        }
        OpCode::Data(_) => Ok(Item::Binary(span)),
    }
}

/// Decompresses a whole message.
fn inflate(
    payload: &[u8],
    text: bool,
    bounds: &Bounds,
    inflater: Option<&mut Inflater>,
) -> Result<Item, Violation> {
    let inflater = inflater.ok_or(Violation::ReservedBits)?;
    let (padded, len) = match inflater.inflate(payload, bounds.message_bytes_max) {
        Ok(plain) => plain,
        Err(Violation::TooBig) => {
            let mut oversized = Oversized::new(text, true, bounds);
            oversized.feed(payload, bounds)?;
            return Ok(Item::Oversized(Box::new(oversized.finish(bounds)?)));
        }
        Err(violation) => return Err(violation),
    };
    if text && std::str::from_utf8(&padded[..len]).is_err() {
        return Err(Violation::Utf8);
    }
    let span = Span {
        place: Place::Inflater,
        start: 0,
        len,
    };
    Ok(message_item(text, span))
}

fn message_item(text: bool, span: Span) -> Item {
    if text {
        Item::Text(span)
    } else {
        Item::Binary(span)
    }
}

fn control_item(control: Control, payload: &[u8], span: Span) -> Result<Item, Violation> {
    match control {
        Control::Ping => Ok(Item::Ping(span)),
        Control::Pong => Ok(Item::Pong(span)),
        Control::Close => close_item(payload, span),
        Control::Reserved(_) => Err(Violation::ReservedOpcode),
    }
}

fn close_item(payload: &[u8], span: Span) -> Result<Item, Violation> {
    if payload.is_empty() {
        return Ok(Item::Close {
            code: None,
            reason: span,
        });
    }
    let (code, reason) = payload
        .split_first_chunk::<2>()
        .ok_or(Violation::CloseTooShort)?;
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::Utf8);
    }
    let reason = Span {
        start: span.start + 2,
        len: reason.len(),
        ..span
    };
    Ok(Item::Close {
        code: Some(code),
        reason,
    })
}

mod replay;
#[cfg(test)]
mod tests;
