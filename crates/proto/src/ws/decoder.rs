//! Decodes client frames from a byte stream, in place where possible.
//!
//! A whole, unfragmented frame inside the received buffer is unmasked in place. Anything else is collected in an
//! assembly that exists only until the message is complete, and grows with the bytes that arrived, never with
//! the length that a header claims. A message too large to keep is skipped, up to a second bound.

use std::io::Cursor;

use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::deflate::Inflater;
use super::mask::unmask;
use super::oversized::Oversized;
use super::utf8::Utf8;
use super::violation::Violation;
use crate::base::limits::PARSE_PADDING_BYTES;
use crate::scan::Scan;

/// Bytes of the longest header: two, eight of length, four of key.
const HEADER_BYTES_MAX: usize = 14;
/// Most bytes of a control frame's payload (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// Bounds on messages.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes of all fragments together, compressed or not.
    pub message_bytes_max: usize,
    /// A larger message of at most this many bytes, compressed or not, is skipped, not kept.
    pub oversized_bytes_max: usize,
    /// Makes the scan of a skipped message.
    pub scan: fn() -> Scan,
    /// Most frames of one message.
    pub fragments_max: u32,
}

/// A message's unmasked payload, with padding after it that a parser may read.
#[derive(Debug)]
pub struct Payload<'a> {
    padded: &'a mut [u8],
    len: usize,
}

impl<'a> Payload<'a> {
    /// Returns the payload.
    pub fn into_bytes(self) -> &'a [u8] {
        &self.padded[..self.len]
    }

    /// Returns the payload's memory, and its length within it; at least `PARSE_PADDING_BYTES`
    /// follow a message, none a control frame.
    pub fn into_padded(self) -> (&'a mut [u8], usize) {
        (self.padded, self.len)
    }
}

/// Where the payload of an [`Item`] lies; [`Decoder::payload`] lends it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    place: Place,
    start: usize,
    len: usize,
}

/// The memories that can hold a payload.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The received buffer: the frame was whole in it.
    Received,
    /// The assembly's message.
    Message,
    /// The assembly's control frame.
    Control,
    /// The decompressor's output.
    Inflater,
}

/// A message or control frame of a client, without its payload, so that a caller can pass over it or
/// go on reading before it borrows.
#[derive(Debug)]
#[must_use]
pub enum Item {
    /// A whole text message; valid UTF-8.
    Text(Span),
    /// A whole binary message.
    Binary(Span),
    /// A whole message that is too large; the scan of it.
    Oversized(Box<Scan>),
    /// A ping.
    Ping(Span),
    /// A pong.
    Pong(Span),
    /// The client's Close frame.
    Close {
        /// The close code, if it has one.
        code: Option<u16>,
        /// The close reason; valid UTF-8.
        reason: Span,
    },
}

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
    head: [u8; HEADER_BYTES_MAX],
    head_len: usize,
    // The frame whose payload is arriving.
    frame: Option<Frame>,
    // The incomplete message: its kind, its bytes so far, its number of frames.
    message: Option<Data>,
    deflated: bool,
    bytes: Vec<u8>,
    utf8: Utf8,
    // Replaces `bytes` and `utf8` once the message is too large for them.
    oversized: Option<Box<Oversized>>,
    fragments: u32,
    control: Vec<u8>,
    // The message in `bytes` was handed out; it is dropped before the next.
    spent: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    // RSV1 of RFC 7692: the message that begins here is compressed.
    deflated: bool,
    mask: [u8; 4],
    len: usize,
    received: usize,
}

impl Decoder {
    /// Takes at most one item from `buffer[start..end]`, the received bytes not consumed yet; the bytes after `end`
    /// are padding. Makes progress whenever `start < end`. Compressed messages need an `inflater`, which a
    /// connection passes always or never. [`Decoder::payload`] lends the item's payload until the next step.
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

    /// Lends the payload of the item that the last step returned, from the buffer and the inflater of that step.
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

    /// Frees the memory of a message that was handed out. Call it when a received buffer is consumed.
    pub fn release(&mut self) {
        if self
            .assembly
            .as_ref()
            .is_some_and(|assembly| assembly.is_spent())
        {
            self.assembly = None;
        }
    }

    /// Returns the number of frames of the incomplete message that do not end it; 0 between two messages.
    /// A final frame that arrives in pieces is not counted: the network cuts the stream, not the client.
    pub fn fragments(&self) -> u32 {
        self.assembly.as_ref().map_or(0, |assembly| {
            let ends = |frame: &Frame| frame.is_final && matches!(frame.opcode, OpCode::Data(_));
            assembly.fragments - u32::from(assembly.frame.as_ref().is_some_and(ends))
        })
    }

    /// Whether the stream is at a message boundary without an incomplete frame.
    pub fn is_idle(&self) -> bool {
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

/// Parses a header from `bytes`; returns it with its length, `None` if it is incomplete. `deflate`: compression
/// was agreed on.
fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Frame, usize)>, Violation> {
    // Reserved bits and opcodes are refused by the first two bytes, whether or not the rest has arrived.
    let mut cursor = Cursor::new(bytes);
    let parsed = match FrameHeader::parse(&mut cursor) {
        Ok(parsed) => parsed,
        Err(Error::Protocol(ProtocolError::InvalidOpcode(_))) => {
            return Err(Violation::ReservedOpcode);
        }
        Err(_) => return Err(Violation::TooBig),
    };
    let Some((header, len)) = parsed else {
        return Ok(None);
    };
    // RFC 7692 §6.1: RSV1 is allowed on the first frame of a message only, never on control frames.
    let may_be_deflated =
        deflate && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
    if (header.rsv1 && !may_be_deflated) || header.rsv2 || header.rsv3 {
        return Err(Violation::ReservedBits);
    }
    if let OpCode::Control(_) = header.opcode {
        if len > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
        if !header.is_final {
            return Err(Violation::ControlFragmented);
        }
    }
    match header.opcode {
        OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
            return Err(Violation::ReservedOpcode);
        }
        OpCode::Control(_) | OpCode::Data(_) => {}
    }
    let mask = header.mask.ok_or(Violation::Unmasked)?;
    let len = usize::try_from(len).map_err(|_| Violation::TooBig)?;
    let frame = Frame {
        opcode: header.opcode,
        is_final: header.is_final,
        deflated: header.rsv1,
        mask,
        len,
        received: 0,
    };
    let header_len = usize::try_from(cursor.position()).expect("at most 14");
    Ok(Some((frame, header_len)))
}

/// Checks by its header whether a frame may come next; returns whether its message is too large to keep.
fn admit(
    frame: &Frame,
    message: Option<Data>,
    bytes: usize,
    fragments: u32,
    bounds: &Bounds,
) -> Result<bool, Violation> {
    let OpCode::Data(data) = frame.opcode else {
        return Ok(false);
    };
    match (data, message) {
        (Data::Continue, None) => return Err(Violation::NothingToContinue),
        (Data::Text | Data::Binary, Some(_)) => return Err(Violation::InsideFragmented),
        _ => {}
    }
    if frame.len > bounds.oversized_bytes_max.saturating_sub(bytes) {
        return Err(Violation::TooBig);
    }
    if fragments >= bounds.fragments_max {
        return Err(Violation::TooManyFragments);
    }
    Ok(frame.len > bounds.message_bytes_max.saturating_sub(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scan;
    use proptest::prelude::*;
    use tungstenite::Message;
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

    const BOUNDS: Bounds = Bounds {
        message_bytes_max: 16 * 1024,
        oversized_bytes_max: 128 * 1024,
        scan: || Scan::new("RequestId", 300, |_| true),
        fragments_max: 64,
    };

    /// Decodes a stream: kind and payload of each item, then the violation if there is one.
    fn decode(stream: &[u8], chunks: &[usize]) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
        decode_with(None, stream, chunks)
    }

    /// Does the same on a connection that agreed to compression.
    fn decode_deflated(
        stream: &[u8],
        chunks: &[usize],
    ) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
        decode_with(Some(&mut Inflater::default()), stream, chunks)
    }

    fn decode_with(
        mut inflater: Option<&mut Inflater>,
        stream: &[u8],
        chunks: &[usize],
    ) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
        let (mut decoder, mut items) = (Decoder::default(), Vec::new());
        let mut sizes = chunks.iter().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let len = (*sizes.next().expect("endless")).clamp(1, rest.len());
            let mut buffer = rest[..len].to_vec();
            rest = &rest[len..];
            // Padding that would change the result if it were read as bytes of the message.
            buffer.resize(len + PARSE_PADDING_BYTES, b'{');
            let mut start = 0;
            while start < len {
                let shared = inflater.as_deref_mut();
                let step = match decoder.step(&mut buffer, start, len, &BOUNDS, shared) {
                    Ok(step) => step,
                    Err(violation) => return (items, Some(violation)),
                };
                assert!(
                    step.consumed > 0 && start + step.consumed <= len,
                    "progress in bounds"
                );
                start += step.consumed;
                let mut lend = |span| {
                    let shared = inflater.as_deref_mut();
                    let payload = decoder.payload(span, &mut buffer, shared);
                    payload.into_bytes().to_vec()
                };
                items.extend(step.item.map(|item| match item {
                    Item::Text(span) => ('t', lend(span)),
                    Item::Binary(span) => ('b', lend(span)),
                    Item::Oversized(scan) => {
                        ('s', scan.value().unwrap_or_default().as_bytes().to_vec())
                    }
                    Item::Ping(span) => ('i', lend(span)),
                    Item::Pong(span) => ('o', lend(span)),
                    Item::Close { code, reason } => {
                        let reason = String::from_utf8(lend(reason)).expect("UTF-8");
                        ('c', format!("{code:?}{reason}").into_bytes())
                    }
                }));
            }
            decoder.release();
            assert!(
                !decoder.is_idle() || decoder.assembly.is_none(),
                "idle costs nothing"
            );
        }
        (items, None)
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | u8::try_from(len).expect("short")),
            len @ 126..0x1_0000 => {
                frame.push(0x80 | 0x7E);
                frame.extend(u16::try_from(len).expect("short").to_be_bytes());
            }
            len => {
                frame.push(0x80 | 0x7F);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            ".{0,300}".prop_map(Message::text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
            prop::collection::vec(any::<u8>(), 0..125).prop_map(|p| Message::Ping(p.into())),
            prop::collection::vec(any::<u8>(), 0..125).prop_map(|p| Message::Pong(p.into())),
        ]
    }

    proptest! {
        /// Goal: streams of tungstenite's client are read the same, in any chunks.
        #[test]
        fn streams_of_tungstenite_are_understood(
            messages in prop::collection::vec(message(), 1..8),
            chunks in prop::collection::vec(1_usize..400, 1..6),
        ) {
            let mut client = WebSocket::from_raw_socket(
                Cursor::new(Vec::new()), Role::Client, Some(WebSocketConfig::default()),
            );
            let mut expected = Vec::new();
            for message in messages {
                expected.push(match &message {
                    Message::Text(text) => ('t', text.as_bytes().to_vec()),
                    Message::Binary(bytes) => ('b', bytes.to_vec()),
                    Message::Ping(bytes) => ('i', bytes.to_vec()),
                    Message::Pong(bytes) => ('o', bytes.to_vec()),
                    _ => unreachable!("not generated"),
                });
                client.send(message).expect("a vector takes all");
            }
            let stream = client.get_ref().get_ref().clone();
            prop_assert_eq!(decode(&stream, &chunks), (expected, None));
        }

        /// Goal: fragments and control frames between them give the same message, in any chunks.
        #[test]
        fn fragments_are_joined(
            text in ".{0,200}",
            cuts in prop::collection::vec(0_usize..600, 0..6),
            chunks in prop::collection::vec(1_usize..50, 1..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut stream, mut start, mut pings) = (Vec::new(), 0, 0);
            for (index, cut) in cuts.iter().enumerate() {
                stream.extend(frame(u8::from(index == 0), &bytes[start..*cut]));
                stream.extend(frame(0x89, b"p"));
                (start, pings) = (*cut, pings + 1);
            }
            stream.extend(frame(if cuts.is_empty() { 0x81 } else { 0x80 }, &bytes[start..]));
            let mut expected = vec![('i', b"p".to_vec()); pings];
            expected.push(('t', bytes.to_vec()));
            prop_assert_eq!(decode(&stream, &chunks), (expected, None));
        }

        /// Goal: no bytes panic, and chunks never change the items.
        #[test]
        fn any_bytes_mean_the_same_in_any_chunks(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            start in prop_oneof![Just(0x81_u8), Just(0x82), Just(0x01), Just(0x89), Just(0x88)],
            chunks in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let mut stream = frame(start, &bytes[..bytes.len().min(100)]);
            stream.extend(&bytes);
            let (whole, violation) = decode(&stream, &[stream.len()]);
            let (items, in_chunks) = decode(&stream, &chunks);
            prop_assert_eq!(violation, in_chunks);
            prop_assert_eq!(whole, items);
        }

        /// Goal: the same holds where compression was agreed on.
        #[test]
        fn compressed_bytes_mean_the_same_in_any_chunks(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            start in prop_oneof![Just(0xC1_u8), Just(0xC2), Just(0x41), Just(0xC0), Just(0x81)],
            chunks in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let mut stream = frame(start, &bytes[..bytes.len().min(100)]);
            stream.extend(&bytes);
            prop_assert_eq!(
                decode_deflated(&stream, &[stream.len()]),
                decode_deflated(&stream, &chunks)
            );
        }

        /// Goal: compressed messages are read back, in any fragments and any chunks, with plain ones and control frames
        /// between them.
        #[test]
        fn compressed_messages_are_read(
            texts in prop::collection::vec("[a-c\u{e9} ]{0,400}", 1..4),
            cut in 0_usize..300,
            chunks in prop::collection::vec(1_usize..80, 1..6),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for text in &texts {
                let deflated = deflated(text.as_bytes());
                let (first, rest) = deflated.split_at(cut.min(deflated.len()));
                stream.extend(frame(0x41, first));
                stream.extend(frame(0x89, b"p"));
                stream.extend(frame(0x80, rest));
                stream.extend(frame(0x81, text.as_bytes()));
                stream.extend(frame(0xC2, &deflated));
                expected.push(('i', b"p".to_vec()));
                let kinds = ['t', 't', 'b'];
                expected.extend(kinds.map(|kind| (kind, text.as_bytes().to_vec())));
            }
            prop_assert_eq!(decode_deflated(&stream, &chunks), (expected, None));
        }
    }

    fn deflated(payload: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut writer =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(payload).expect("memory");
        writer.flush().expect("memory");
        let deflated = writer.get_ref();
        let deflated = deflated.strip_suffix(&[0, 0, 0xFF, 0xFF]);
        deflated.expect("a flush ends in an empty block").to_vec()
    }

    /// Makes bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| rng.alphanumeric() as u8)
            .take(len)
            .collect()
    }

    /// Goal: a message too large to keep is skipped and its id found wherever it is, plain or compressed, whole or
    /// in fragments with pings between them, in any chunks; the next message is read.
    #[test]
    fn oversized_messages_are_skipped() {
        let after = frame(0x81, b"after");
        for len in [16 * 1024, 17_000, 60_000, 128 * 1024 - 40] {
            for filler in [vec![b'x'; len], noise(len)] {
                let filler = String::from_utf8(filler).expect("ASCII");
                for json in [
                    format!(r#"{{"RequestId":"r","Content":"{filler}"}}"#),
                    format!(r#"{{"Content":"{filler}","RequestId":"r"}}"#),
                ] {
                    let (plain, squeezed) = (json.as_bytes(), deflated(json.as_bytes()));
                    for (bits, payload) in [(0, plain), (0x40, &*squeezed)] {
                        let (a, b) = payload.split_at(payload.len() / 3);
                        let (b, c) = b.split_at(b.len() / 2);
                        let whole = frame(0x81 | bits, payload);
                        let ping = frame(0x89, b"p");
                        let parts = [frame(0x01 | bits, a), frame(0x00, b), ping, frame(0x80, c)];
                        for (stream, pings) in [(whole, 0), (parts.concat(), 1)] {
                            let stream = [stream, after.clone()].concat();
                            for chunk in [997, 4000, stream.len()] {
                                let mut expected = vec![('i', b"p".to_vec()); pings];
                                expected.push(('s', b"r".to_vec()));
                                expected.push(('t', b"after".to_vec()));
                                let decoded = decode_deflated(&stream, &[chunk]);
                                assert!(decoded == (expected, None), "{len} {bits} {chunk}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Goal: each violation of RFC 7692 has its close code.
    #[test]
    fn violations_in_compression_have_their_close_codes() {
        let half = [0xC3_u8];
        let long_text = [vec![b'x'; 17_000], half.to_vec()].concat();
        let noise = deflated(&noise(120_000));
        let bomb = deflated(&vec![b'x'; 128 * 1024 + 1]);
        assert!(bomb.len() < 300);
        let cases: Vec<(&str, Vec<u8>, u16)> = vec![
            ("ping", frame(0xC9, b"x"), 1002),
            ("close", frame(0xC8, b""), 1002),
            (
                "continuation",
                [frame(0x41, b""), frame(0xC0, b"")].concat(),
                1002,
            ),
            ("RSV1 and RSV2", frame(0xE1, b""), 1002),
            ("RSV2", frame(0xA1, b""), 1002),
            ("RSV3", frame(0x91, b""), 1002),
            ("garbage", frame(0xC1, &[0xFF; 20]), 1007),
            ("half a character", frame(0xC1, &deflated(&half)), 1007),
            ("bomb", frame(0xC1, &bomb), 1009),
            ("binary bomb", frame(0xC2, &bomb), 1009),
            ("long", frame(0xC1, &vec![0; 128 * 1024 + 1]), 1009),
            ("long garbage", frame(0xC1, &vec![0xFF; 17_000]), 1007),
            ("long text", frame(0xC1, &deflated(&long_text)), 1007),
            (
                "long in fragments",
                [frame(0x41, &noise[..80_000]), frame(0x80, &noise[..80_000])].concat(),
                1009,
            ),
        ];
        for (name, stream, code) in cases {
            for chunk in [1, stream.len()] {
                let (items, violation) = decode_deflated(&stream, &[chunk]);
                let violation = violation.unwrap_or_else(|| panic!("{name} passes: {items:?}"));
                assert_eq!(violation.close_code(), code, "{name}: {violation}");
            }
        }
        let (items, _) = decode_deflated(&frame(0xC2, &deflated(&half)), &[1]);
        assert_eq!(items, [('b', half.to_vec())]);
    }

    /// Goal: each violation has its close code, by the header alone where a length is claimed.
    #[test]
    fn violations_have_their_close_codes() {
        let huge = |len: u64| {
            let mut frame = vec![0x82, 0xFF];
            frame.extend(len.to_be_bytes());
            frame.extend([0; 4]);
            frame
        };
        let bomb = frame(0x01, b"")
            .into_iter()
            .chain(frame(0x00, b"").repeat(64))
            .collect();
        let cases: Vec<(&str, Vec<u8>, u16)> = vec![
            ("unmasked", vec![0x81, 0x01, b'x'], 1002),
            ("reserved bit", frame(0xC1, b"x"), 1002),
            ("reserved opcode", frame(0x83, b"x"), 1002),
            ("reserved control opcode", frame(0x8B, b"x"), 1002),
            ("long ping", frame(0x89, &[0; 126]), 1002),
            ("fragmented ping", frame(0x09, b""), 1002),
            ("continuation first", frame(0x80, b"x"), 1002),
            (
                "text inside",
                [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
                1002,
            ),
            ("close of one byte", frame(0x88, &[3]), 1002),
            (
                "close code 1005",
                frame(0x88, &1005_u16.to_be_bytes()),
                1002,
            ),
            ("close code 999", frame(0x88, &999_u16.to_be_bytes()), 1002),
            ("close reason", frame(0x88, &[0x03, 0xE8, 0xFF]), 1007),
            ("text", frame(0x81, &[0xED, 0xA0, 0x80]), 1007),
            ("half a character", frame(0x81, &[0xC3]), 1007),
            (
                "half a character in fragments",
                [frame(0x01, &[0xC3]), frame(0x80, b"x")].concat(),
                1007,
            ),
            (
                "128 KiB and one",
                frame(0x82, &vec![0; 128 * 1024 + 1]),
                1009,
            ),
            (
                "128 KiB and one in fragments",
                [frame(0x02, &vec![0; 128 * 1024]), frame(0x80, b"x")].concat(),
                1009,
            ),
            ("long text", frame(0x81, &vec![0xFF; 17_000]), 1007),
            (
                "half a character at the end of a long text",
                frame(0x81, &[vec![b'x'; 17_000], vec![0xC3]].concat()),
                1007,
            ),
            ("2^62", huge(1 << 62), 1009),
            ("2^63", huge(1 << 63), 1009),
            ("2^64 - 1", huge(u64::MAX), 1009),
            ("2^32 + 2", huge((1 << 32) + 2), 1009),
            ("1 GiB", huge(1 << 30), 1009),
            ("empty fragments", bomb, 1008),
        ];
        for (name, stream, code) in cases {
            for chunk in [1, stream.len()] {
                let (_, violation) = decode(&stream, &[chunk]);
                let violation = violation.unwrap_or_else(|| panic!("{name} passes"));
                assert_eq!(violation.close_code(), code, "{name}: {violation}");
            }
        }
    }
}
