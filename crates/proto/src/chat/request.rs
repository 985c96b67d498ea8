//! Publish requests, and why one is refused.

use super::ErrorCode;

/// A valid publish request. `request_id` and `reason` are empty if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// `SEND_MESSAGE`.
    SendMessage {
        /// The text, 1 code point to the room's maximum.
        content: &'a str,
        /// The attributes as a JSON object of strings; `null` if absent.
        attributes_json: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
    /// `DELETE_MESSAGE`.
    DeleteMessage {
        /// The message's id: twelve letters and digits.
        id: &'a str,
        /// The reason, at most 256 code points.
        reason: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
    /// `DISCONNECT_USER`.
    DisconnectUser {
        /// The user's id, 1 to 128 code points.
        user_id: &'a str,
        /// The reason, at most 256 code points.
        reason: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
}

/// The kinds of request. Rates and counters are kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `SEND_MESSAGE`.
    SendMessage,
    /// `DELETE_MESSAGE`.
    DeleteMessage,
    /// `DISCONNECT_USER`.
    DisconnectUser,
}

impl<'a> Request<'a> {
    /// Returns which of the three it is.
    pub const fn action(&self) -> Action {
        match self {
            Self::SendMessage { .. } => Action::SendMessage,
            Self::DeleteMessage { .. } => Action::DeleteMessage,
            Self::DisconnectUser { .. } => Action::DisconnectUser,
        }
    }

    /// Returns the client's own id for the request; empty if it gave none.
    pub const fn request_id(&self) -> &'a str {
        match self {
            Self::SendMessage { request_id, .. }
            | Self::DeleteMessage { request_id, .. }
            | Self::DisconnectUser { request_id, .. } => request_id,
        }
    }

    /// Returns its texts: subject, detail, request id. [`Request::from_texts`] takes them back.
    pub const fn texts(&self) -> [&'a str; 3] {
        match *self {
            Self::SendMessage {
                content,
                attributes_json,
                request_id,
            } => [content, attributes_json, request_id],
            Self::DeleteMessage {
                id,
                reason,
                request_id,
            } => [id, reason, request_id],
            Self::DisconnectUser {
                user_id,
                reason,
                request_id,
            } => [user_id, reason, request_id],
        }
    }

    /// Makes a request of the texts that [`Request::texts`] returned.
    pub const fn from_texts(action: Action, [subject, detail, request_id]: [&'a str; 3]) -> Self {
        match action {
            Action::SendMessage => Self::SendMessage {
                content: subject,
                attributes_json: detail,
                request_id,
            },
            Action::DeleteMessage => Self::DeleteMessage {
                id: subject,
                reason: detail,
                request_id,
            },
            Action::DisconnectUser => Self::DisconnectUser {
                user_id: subject,
                reason: detail,
                request_id,
            },
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The error code, 400 or 413.
    pub code: ErrorCode,
    /// The text, for people; applications compare some of the texts.
    pub message: &'static str,
    /// The request's own id if it can be read; else empty.
    pub request_id: &'a str,
}
