//! Why an order came to nothing, by what is to be done about it.

use std::time::Duration;

use instant_acme::Error;

use super::caller::CallFault;
use crate::logging;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// For the operator; bounded, since the authority has a part in it.
    pub(super) text: String,
    /// The authority's word on when to come back.
    pub(super) retry_after: Option<Duration>,
}

/// Whose fault it is, which decides about the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The authority did not answer: nothing was counted there.
    Unreachable,
    /// It answered, and issues nothing.
    Refused,
    /// It was not asked, or what it issued could not be used: a disk, a port, a file.
    Here,
}

impl Fault {
    /// Something on this machine.
    pub(super) fn here(text: impl ToString) -> Self {
        Self::new(Kind::Here, text)
    }

    /// The authority's word.
    pub(super) fn refused(text: impl ToString) -> Self {
        Self::new(Kind::Refused, text)
    }

    fn new(kind: Kind, text: impl ToString) -> Self {
        Self {
            kind,
            text: logging::bounded(&text.to_string()).into_owned(),
            retry_after: None,
        }
    }
}

impl From<Error> for Fault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an open set of the library")]
    fn from(error: Error) -> Self {
        match error {
            Error::Other(cause) => match cause.downcast_ref::<CallFault>() {
                Some(call) => Self::new(Kind::Unreachable, call),
                None => Self::refused(cause),
            },
            Error::Timeout(_) => Self::refused("the authority did not come to a result in time"),
            Error::Json(cause) => Self::refused(format!("its answer is not that of ACME: {cause}")),
            Error::Api(problem) => Self::refused(problem),
            Error::Crypto | Error::KeyRejected => Self::here(error),
            error => Self::refused(error),
        }
    }
}
