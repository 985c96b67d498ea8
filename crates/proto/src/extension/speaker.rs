//! What the home of a room knows of who sends a message, beside `Sender`.

use super::traits::Traits;
use crate::token::{Capabilities, Capability};

/// Who sends a message, as far as the modes of a room ask. It goes with each request to the room's home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speaker {
    /// What the token permits.
    pub capabilities: Capabilities,
    /// Whether the role alone lifts the modes.
    pub has_exempt_role: bool,
    /// Since when the user is known, in seconds since 1970; 0: nothing is known.
    pub since: u64,
    /// Whether a ban keeps what the user says from everybody else: it is judged as others' is, then given back.
    pub is_shadowed: bool,
}

impl Speaker {
    /// A back end, by the API: modes do not hold it back.
    pub const BACK_END: Self = Self {
        capabilities: Capabilities::NONE,
        has_exempt_role: true,
        since: 0,
        is_shadowed: false,
    };

    /// The holder of a token.
    pub fn of(capabilities: Capabilities, traits: Option<&Traits>) -> Self {
        Self {
            capabilities,
            has_exempt_role: traits.is_some_and(Traits::is_exempt),
            since: traits.and_then(|traits| traits.since).unwrap_or(0),
            is_shadowed: false,
        }
    }

    /// The same, under a shadow ban or not.
    #[must_use]
    pub fn shadowed(self, is_shadowed: bool) -> Self {
        Self {
            is_shadowed,
            ..self
        }
    }

    /// Whether the user may moderate, by one capability or the other.
    pub fn is_crew(self) -> bool {
        self.capabilities.contains(Capability::DeleteMessage)
            || self.capabilities.contains(Capability::DisconnectUser)
    }

    /// Whether the modes of a room do not hold the user back.
    pub fn is_exempt(self) -> bool {
        self.has_exempt_role || self.is_crew()
    }
}
