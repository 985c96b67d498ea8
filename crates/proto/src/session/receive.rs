//! The receive loop: frames out of the received bytes, and the effect of each.

use super::close::TOO_BIG;
use super::context::SessionContext;
use super::effect::Effect;
use super::state::Session;
use crate::base::clock::Tick;
use crate::base::limits::PARSE_PADDING_BYTES;
use crate::chat::{ErrorCode, Refusal, request_id_scan, texts};
use crate::extension::{Commands, command};
use crate::scan::Scan;
use crate::ws::{Decoder, Item, Payload, Span, Violation};

/// The bytes of one receive, and how far [`Session::next`] has come in them.
#[derive(Debug)]
pub struct Input<'b> {
    // Received bytes, then padding that a parser may read.
    buffer: &'b mut [u8],
    // Start of the bytes that are not read yet; at most `len`, where nothing is left to read.
    at: usize,
    // Number of received bytes; at least `PARSE_PADDING_BYTES` follow in `buffer`.
    len: usize,
    // The room's bound on a message, in code points.
    content_chars_max: usize,
    // Which messages of the room's members are commands.
    commands: Commands,
    // The effect that follows the one returned last; if present, `at == len`.
    last: Option<Last>,
}

/// The second of two effects of one frame.
#[derive(Debug, Clone, Copy)]
enum Last {
    Violation(Violation),
    PeerClosed,
}

impl<'b> Input<'b> {
    /// Wraps the received bytes `buffer[..len]`, for a room that takes `content_chars_max` code
    /// points a message.
    ///
    /// # Panics
    ///
    /// If fewer than `PARSE_PADDING_BYTES` follow them.
    pub fn new(buffer: &'b mut [u8], len: usize, content_chars_max: usize) -> Self {
        assert!(
            len + PARSE_PADDING_BYTES <= buffer.len(),
            "padding after the received bytes"
        );
        Self {
            buffer,
            at: 0,
            len,
            content_chars_max,
            commands: Commands::None,
            last: None,
        }
    }

    /// Sets which messages of the room's members are commands; without it none is.
    #[must_use]
    pub fn with_commands(mut self, commands: Commands) -> Self {
        self.commands = commands;
        self
    }

    /// Ignores the bytes that are not read yet; `last` is still to be returned.
    fn end(&mut self, last: Option<Last>) {
        self.at = self.len;
        self.last = last;
    }

    /// Lends the payload of the item that was read last.
    fn payload<'a>(
        &'a mut self,
        span: Span,
        decoder: &'a mut Decoder,
        context: &'a mut SessionContext,
    ) -> Payload<'a> {
        decoder.payload(span, self.buffer, Some(&mut context.inflater))
    }
}

/// Why the rest of an input is not read.
enum Stop {
    Violation(Violation),
    Flood,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Session {
    /// Returns the next effect of `input`, which arrived `now`; `None`: there is no further one.
    /// The grammar is in the [module's documentation](super).
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut Input<'_>,
        context: &'a mut SessionContext,
        now: Tick,
    ) -> Option<Effect<'a>> {
        match input.last.take() {
            Some(Last::Violation(violation)) => return Some(Effect::Violation(violation)),
            Some(Last::PeerClosed) => return Some(Effect::PeerClosed),
            None => self.note_received(now),
        }
        loop {
            let item = match self.read(input, context, now) {
                Ok(item) => item?,
                Err(Stop::Violation(violation)) => return self.violate(violation, input),
                Err(Stop::Flood) => {
                    self.begin_close();
                    input.end(None);
                    return Some(Effect::Flood);
                }
            };
            return Some(match item {
                Item::Text(span) => self.text(span, input, context, now),
                Item::Binary(span) => self.binary(span, input, context, now),
                Item::Oversized(scan) => {
                    let (code, message) = (ErrorCode::PayloadTooLarge, texts::FRAME_TOO_BIG);
                    self.refuse(&scan, (code, message), context, now)
                }
                Item::Ping(span) => {
                    let payload = input.payload(span, &mut self.decoder, context);
                    Effect::Pong(payload.into_bytes())
                }
                Item::Pong(_) => continue,
                Item::Close { code, .. } => self.peer_close(code, input),
            });
        }
    }

    /// Reads the next item that counts; frames beside requests are charged.
    fn read(
        &mut self,
        input: &mut Input<'_>,
        context: &mut SessionContext,
        now: Tick,
    ) -> Result<Option<Item>, Stop> {
        let deflate = self.window_bits().is_some();
        while input.at < input.len {
            let fragments = self.decoder.fragments();
            let inflater = deflate.then_some(&mut context.inflater);
            let bounds = &context.bounds;
            let step = self
                .decoder
                .step(input.buffer, input.at, input.len, bounds, inflater)?;
            input.at += step.consumed;
            let is_overhead = match &step.item {
                None => self.decoder.fragments() > fragments,
                Some(Item::Close { .. }) => return Ok(step.item),
                Some(_) if self.is_closing() => continue,
                Some(Item::Ping(_) | Item::Pong(_)) => true,
                Some(Item::Text(_) | Item::Binary(_) | Item::Oversized(_)) => false,
            };
            if is_overhead && !self.budgets.charge_overhead(context.rates, now) {
                return Err(Stop::Flood);
            }
            if step.item.is_some() {
                return Ok(step.item);
            }
        }
        self.decoder.release();
        Ok(None)
    }

    fn text<'a>(
        &'a mut self,
        span: Span,
        input: &'a mut Input<'_>,
        context: &'a mut SessionContext,
        now: Tick,
    ) -> Effect<'a> {
        let SessionContext {
            parser,
            inflater,
            rates,
            echo,
            ..
        } = context;
        let payload = self.decoder.payload(span, input.buffer, Some(inflater));
        if *echo {
            return Effect::Echo {
                text: true,
                payload: payload.into_bytes(),
            };
        }
        let (padded, len) = payload.into_padded();
        let parsed = parser.parse(padded, len, input.content_chars_max);
        if input.commands != Commands::None
            && let Ok(request) = &parsed
            && let Some(command) = command::read(request, input.commands, self.capabilities)
        {
            let request_id = request.request_id();
            return match self.budgets.charge_command(request_id, *rates, now) {
                Ok(()) => Effect::Command {
                    command,
                    request_id,
                    sender_json: &self.sender_json,
                },
                Err(refusal) => Effect::Refuse(refusal),
            };
        }
        let judged = match parsed {
            Ok(request) => self
                .budgets
                .judge(&request, self.capabilities, *rates, now)
                .map(|()| request),
            Err(refusal) => Err(self.budgets.charge_refused(refusal, *rates, now)),
        };
        match judged {
            Ok(request) => Effect::Publish {
                request,
                sender_json: &self.sender_json,
            },
            Err(refusal) => Effect::Refuse(refusal),
        }
    }

    fn binary<'a>(
        &'a mut self,
        span: Span,
        input: &'a mut Input<'_>,
        context: &'a mut SessionContext,
        now: Tick,
    ) -> Effect<'a> {
        if context.echo {
            let payload = input.payload(span, &mut self.decoder, context);
            return Effect::Echo {
                text: false,
                payload: payload.into_bytes(),
            };
        }
        let mut scan = request_id_scan();
        let payload = input.payload(span, &mut self.decoder, context);
        scan.feed(payload.into_bytes());
        let fault = (ErrorCode::BadRequest, texts::BINARY);
        self.refuse(&scan, fault, context, now)
    }

    /// Refuses a message that is not parsed; `scan` has read it.
    fn refuse<'a>(
        &mut self,
        scan: &Scan,
        (code, message): (ErrorCode, &'static str),
        context: &'a mut SessionContext,
        now: Tick,
    ) -> Effect<'a> {
        let id = &mut context.refused_id;
        id.clear();
        id.push_str(scan.value().unwrap_or_default());
        let refusal = Refusal {
            code,
            message,
            request_id: id,
        };
        Effect::Refuse(self.budgets.charge_refused(refusal, context.rates, now))
    }

    /// Handles the client's Close frame: answered once, and the end of its bytes.
    fn peer_close(&mut self, code: Option<u16>, input: &mut Input<'_>) -> Effect<'static> {
        if self.is_closing() {
            input.end(None);
            return Effect::PeerClosed;
        }
        self.begin_close();
        input.end(Some(Last::PeerClosed));
        Effect::AnswerClose { code }
    }

    /// Handles broken bytes: nothing after them can be read. `None`: the session was closing
    /// anyway.
    fn violate(&mut self, violation: Violation, input: &mut Input<'_>) -> Option<Effect<'static>> {
        self.decoder = Decoder::default();
        input.end(None);
        if self.is_closing() {
            return None;
        }
        self.begin_close();
        if violation.close_code() != TOO_BIG {
            return Some(Effect::Violation(violation));
        }
        input.end(Some(Last::Violation(violation)));
        Some(Effect::Refuse(Refusal {
            code: ErrorCode::PayloadTooLarge,
            message: texts::FRAME_TOO_BIG,
            request_id: "",
        }))
    }
}
