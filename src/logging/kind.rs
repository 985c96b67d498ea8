//! Kinds of log lines that strangers can cause.

macro_rules! kinds {
    ($($kind:ident $label:literal)*) => {
        /// The kind of a line. Each kind has a rate of its own, so that a flood of one hides no other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
            /// Number of kinds.
            pub const COUNT: usize = Self::ALL.len();

            /// Its place in a table of all kinds.
            #[expect(clippy::as_conversions, reason = "the number of a variant without fields")]
            pub(super) const fn index(self) -> usize {
                self as usize
            }

            /// The label in metrics and log lines.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)*
                }
            }
        }
    };
}

kinds! {
    HandshakeMalformed "handshake_malformed"
    HandshakeMissingToken "handshake_missing_token"
    HandshakeBadToken "handshake_bad_token"
    HandshakeExpiredToken "handshake_expired_token"
    HandshakeUsedToken "handshake_used_token"
    HandshakeNoRoom "handshake_no_room"
    HandshakeLimit "handshake_limit"
    HandshakeOrigin "handshake_origin"
    HandshakeBanned "handshake_banned"
    HandshakeTimeout "handshake_timeout"
    HandshakeTls "handshake_tls"
    HandshakeFailed "handshake_failed"
    Message400 "message_400"
    Message403 "message_403"
    Message404 "message_404"
    Message406 "message_406"
    Message413 "message_413"
    Message429 "message_429"
    MessageOther "message_other"
    ApiUnauthenticated "api_unauthenticated"
    ApiDenied "api_denied"
    ApiInvalid "api_invalid"
    ApiNotFound "api_not_found"
    ApiConflict "api_conflict"
    ApiLimit "api_limit"
    ApiFailed "api_failed"
    ApiOrder "api_order"
    ControlAccept "control_accept"
    ControlFull "control_full"
    ControlMalformed "control_malformed"
    ControlTls "control_tls"
    Accept "accept"
    Journal "journal"
    Mailbox "mailbox"
    Random "random"
    Archive "archive"
    ArchiveFull "archive_full"
    Audit "audit"
    Bans "bans"
}
