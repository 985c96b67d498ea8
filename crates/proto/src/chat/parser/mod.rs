//! Parses publish requests in place on a reused tape, without allocation in steady state.

#![expect(
    clippy::indexing_slicing,
    reason = "the caller promises the length, and `Payload` keeps it"
)]

mod attributes;
mod fault;
mod members;
#[cfg(test)]
mod tests;

use simd_json::{Buffers, Node, Tape, fill_tape_padded};

use self::attributes::take_attributes;
use self::fault::{Fault, bad};
use self::members::{Members, member, members};
use super::json::is_shallow;
use super::request::{Refusal, Request};
use super::{request_id_scan, texts};
use crate::base::id::FrameId;
use crate::base::limits::{
    ATTRIBUTES_BYTES_MAX, JSON_DEPTH_MAX, MESSAGE_BYTES_MAX, PARSE_PADDING_BYTES, REASON_CHARS_MAX,
    REQUEST_ID_BYTES_MAX, USER_ID_CHARS_MAX,
};
use crate::scan::mend_lone_surrogates;

/// Parses requests, one parser per shard: its buffers are kept for the next request.
pub struct Parser {
    buffers: Buffers,
    tape: Tape<'static>,
    attributes: Vec<u8>,
    order: Vec<u32>,
    // A copy of the request, since parsing overwrites it; a refusal's id is read from it.
    original: Vec<u8>,
    // The id of the last request that was refused.
    refused_id: String,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            buffers: Buffers::with_max_depth(MESSAGE_BYTES_MAX, JSON_DEPTH_MAX),
            tape: Tape(Vec::with_capacity(256)),
            attributes: Vec::with_capacity(2 * ATTRIBUTES_BYTES_MAX),
            order: Vec::with_capacity(64),
            original: Vec::with_capacity(MESSAGE_BYTES_MAX + PARSE_PADDING_BYTES),
            refused_id: String::new(),
        }
    }
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").finish_non_exhaustive()
    }
}

impl Parser {
    /// Parses `padded[..len]`, valid UTF-8, with at least `PARSE_PADDING_BYTES` after it; strings
    /// are unescaped in place. A usual message takes 250-400 ns.
    ///
    /// Keys match in any letter case, unknown ones are ignored, a repeated key is refused, and
    /// `null` is the same as absent. Half a surrogate pair (`"\ud83d"`: JavaScript's `slice`
    /// through an emoji) is read as U+FFFD, as by the parsers of most languages.
    ///
    /// # Errors
    ///
    /// A refusal with the request's id if it can be read: without it the client's promise never
    /// settles.
    pub fn parse<'a>(
        &'a mut self,
        padded: &'a mut [u8],
        len: usize,
        content_chars_max: usize,
    ) -> Result<Request<'a>, Refusal<'a>> {
        let Self {
            buffers,
            tape,
            attributes,
            order,
            original,
            refused_id,
        } = self;
        original.clear();
        original.extend_from_slice(&padded[..len]);
        let mut kept = Kept {
            buffers,
            tape,
            attributes,
            order,
        };
        let mut fault = match attempt(padded, len, &mut kept, content_chars_max) {
            Ok(read) => return Ok(read.request(attributes)),
            Err(fault) => fault,
        };
        let mut scan = request_id_scan();
        scan.feed(original);
        refused_id.clear();
        refused_id.push_str(scan.value().unwrap_or_default());
        if fault.1 == texts::NOT_JSON && mend_lone_surrogates(original) {
            original.resize(len + PARSE_PADDING_BYTES, 0);
            fault = match attempt(original, len, &mut kept, content_chars_max) {
                Ok(read) => return Ok(read.request(attributes)),
                Err(fault) => fault,
            };
        }
        Err(Refusal {
            code: fault.0,
            message: fault.1,
            request_id: refused_id,
        })
    }
}

/// Buffers kept from one parse to the next.
struct Kept<'k> {
    buffers: &'k mut Buffers,
    tape: &'k mut Tape<'static>,
    attributes: &'k mut Vec<u8>,
    order: &'k mut Vec<u32>,
}

fn attempt<'a>(
    padded: &'a mut [u8],
    len: usize,
    kept: &mut Kept<'_>,
    content_chars_max: usize,
) -> Result<Read<'a>, Fault> {
    if !is_shallow(&padded[..len], JSON_DEPTH_MAX) {
        return Err(bad(texts::TOO_DEEP));
    }
    let mut tape = std::mem::replace(kept.tape, Tape(Vec::new())).reset();
    let filled = fill_tape_padded(padded, len, kept.buffers, &mut tape);
    let outcome = match filled {
        Ok(()) => read(&tape.0, kept.attributes, kept.order, content_chars_max),
        Err(_) => Err(bad(texts::NOT_JSON)),
    };
    *kept.tape = tape.reset();
    outcome
}

/// A request whose attributes, if any, are in the parser's buffer.
enum Read<'a> {
    Send {
        content: &'a str,
        has_attributes: bool,
        request_id: &'a str,
    },
    Other(Request<'a>),
}

impl<'a> Read<'a> {
    fn request(self, attributes: &'a [u8]) -> Request<'a> {
        match self {
            Self::Send {
                content,
                has_attributes,
                request_id,
            } => Request::SendMessage {
                content,
                attributes_json: if has_attributes {
                    std::str::from_utf8(attributes).expect("made of strings and ASCII")
                } else {
                    "null"
                },
                request_id,
            },
            Self::Other(request) => request,
        }
    }
}

fn read<'a>(
    tape: &[Node<'a>],
    attributes: &mut Vec<u8>,
    order: &mut Vec<u32>,
    content_chars_max: usize,
) -> Result<Read<'a>, Fault> {
    let members = members(tape)?;
    let request_id = match member(tape, members.request_id) {
        None => "",
        Some(Node::String(id)) if id.len() <= REQUEST_ID_BYTES_MAX => id,
        Some(_) => return Err(bad(texts::REQUEST_ID)),
    };
    match text(tape, members.action) {
        Some("SEND_MESSAGE") => {
            let content = content(tape, &members, content_chars_max)?;
            let has_attributes = match members.attributes {
                Some(at) if member(tape, Some(at)).is_some() => {
                    take_attributes(tape, at, attributes, order)?;
                    true
                }
                _ => false,
            };
            Ok(Read::Send {
                content,
                has_attributes,
                request_id,
            })
        }
        Some("DELETE_MESSAGE") => {
            let id = text(tape, members.id)
                .filter(|id| FrameId::parse(id).is_some())
                .ok_or(bad(texts::ID))?;
            Ok(Read::Other(Request::DeleteMessage {
                id,
                reason: reason(tape, &members)?,
                request_id,
            }))
        }
        Some("DISCONNECT_USER") => {
            let user_id = text(tape, members.user_id)
                .filter(|user| !user.is_empty() && chars_at_most(user, USER_ID_CHARS_MAX))
                .ok_or(bad(texts::USER_ID))?;
            Ok(Read::Other(Request::DisconnectUser {
                user_id,
                reason: reason(tape, &members)?,
                request_id,
            }))
        }
        Some(_) | None => Err(bad(texts::ACTION)),
    }
}

fn content<'a>(tape: &[Node<'a>], members: &Members, chars_max: usize) -> Result<&'a str, Fault> {
    let content = text(tape, members.content)
        .filter(|content| !content.is_empty())
        .ok_or(bad(texts::CONTENT))?;
    if chars_at_most(content, chars_max) {
        Ok(content)
    } else {
        Err(bad(texts::TOO_LONG))
    }
}

fn reason<'a>(tape: &[Node<'a>], members: &Members) -> Result<&'a str, Fault> {
    match member(tape, members.reason) {
        None => Ok(""),
        Some(Node::String(reason)) if chars_at_most(reason, REASON_CHARS_MAX) => Ok(reason),
        Some(_) => Err(bad(texts::REASON)),
    }
}

fn text<'a>(tape: &[Node<'a>], index: Option<usize>) -> Option<&'a str> {
    match member(tape, index) {
        Some(Node::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether `text` has at most `max` code points; the byte length decides most cases.
fn chars_at_most(text: &str, max: usize) -> bool {
    text.len() <= max || text.chars().count() <= max
}
