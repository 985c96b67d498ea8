//! The faults of a request.

use crate::chat::ErrorCode;

/// Error code and text for people.
pub(super) type Fault = (ErrorCode, &'static str);

/// A 400 with this text.
pub(super) const fn bad(message: &'static str) -> Fault {
    (ErrorCode::BadRequest, message)
}
