//! IVS Chat messaging: publish requests in, subscribe frames out.

pub mod encode;
mod json;
mod parser;
mod request;
pub mod review;
mod time;

pub use parser::Parser;
pub use request::{Action, Refusal, Request};

use super::scan::Scan;
use crate::base::limits::REQUEST_ID_ECHOED_BYTES_MAX;

/// Makes a scan that finds the id of a refused request, valid JSON or not.
pub fn request_id_scan() -> Scan {
    Scan::new("RequestId", REQUEST_ID_ECHOED_BYTES_MAX, |_| true)
}

/// The `ErrorCode` of an ERROR frame: a closed set, which clients know by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 400: malformed or invalid; message longer than allowed.
    BadRequest,
    /// 401: the session is over. The SDKs fetch a new token and reconnect.
    Unauthorized,
    /// 403: the token lacks the capability.
    Forbidden,
    /// 404: no such room.
    NotFound,
    /// 406: denied by message review.
    NotAcceptable,
    /// 413: fields too large.
    PayloadTooLarge,
    /// 429: over a rate.
    TooManyRequests,
    /// 500: anything else.
    Internal,
}

impl ErrorCode {
    /// Returns the number in the frame.
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::NotAcceptable => 406,
            Self::PayloadTooLarge => 413,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
        }
    }

    /// Returns the code of a number.
    pub fn from_number(number: u16) -> Option<Self> {
        let all = [
            Self::BadRequest,
            Self::Unauthorized,
            Self::Forbidden,
            Self::NotFound,
            Self::NotAcceptable,
            Self::PayloadTooLarge,
            Self::TooManyRequests,
            Self::Internal,
        ];
        all.into_iter().find(|code| code.number() == number)
    }
}

/// `ErrorMessage` texts. Applications compare the first two literally: never change them.
pub mod texts {
    /// 400 for long content; exact.
    pub(crate) const TOO_LONG: &str = "Message exceeds maximum length";
    /// 429; exact.
    pub const RATE: &str = "rate limit exceeded";
    /// 403.
    pub const CAPABILITY: &str = "The chat token lacks the capability for this action";
    /// 404.
    pub const NO_ROOM: &str = "The room does not exist";
    /// 500: the cluster's log did not answer.
    pub const UNKNOWN_OUTCOME: &str =
        "The server cannot tell whether the request took effect; it may still do so";
    /// 406, unless the review handler gave a reason.
    pub const DENIED: &str = "The message was not approved by the room's review handler";
    /// 401.
    pub const SESSION_OVER: &str = "Session expired";
    /// 400.
    pub(crate) const BINARY: &str = "Requests are JSON text frames, not binary ones";
    /// 413.
    pub(crate) const FRAME_TOO_BIG: &str = "Request is larger than 16 KiB";
    /// 400.
    pub(crate) const NOT_JSON: &str = "Request is not valid JSON";
    /// 400.
    pub(crate) const NOT_OBJECT: &str = "Request must be a JSON object";
    /// 400.
    pub(crate) const TOO_DEEP: &str = "Request is nested too deeply";
    /// 400.
    pub(crate) const TOO_MANY_MEMBERS: &str = "Request has too many members";
    /// 400.
    pub(crate) const DUPLICATE: &str = "Request has a duplicate key";
    /// 400.
    pub(crate) const REQUEST_ID: &str = "RequestId must be a string of at most 128 bytes";
    /// 400.
    pub(crate) const ACTION: &str =
        "Action must be SEND_MESSAGE, DELETE_MESSAGE or DISCONNECT_USER";
    /// 400.
    pub(crate) const CONTENT: &str = "Content must be a non-empty string";
    /// 400.
    pub(crate) const ATTRIBUTES: &str = "Attributes must be an object of strings";
    /// 413.
    pub(crate) const ATTRIBUTES_SIZE: &str = "Attributes exceed 1 KB";
    /// 400.
    pub(crate) const ID: &str = "Id must be 12 letters and digits";
    /// 400.
    pub(crate) const REASON: &str = "Reason must be a string of at most 256 characters";
    /// 400.
    pub(crate) const USER_ID: &str = "UserId must be a string of 1 to 128 characters";
}
