//! State that all sessions of a shard share: the parser's buffers and the configured bounds.

use crate::base::limits::{
    FRAGMENTS_MAX, MESSAGE_BYTES_MAX, OVERHEAD_FRAMES_BURST, OVERHEAD_FRAMES_PER_SECOND,
    OVERSIZED_BYTES_MAX,
};
use crate::base::rate::Rate;
use crate::chat::{Parser, request_id_scan};
use crate::ws::{Bounds, Inflater};

/// One per shard; lent to each session while it reads.
#[derive(Debug)]
pub struct SessionContext {
    /// Reused by every request: no allocation in steady state.
    pub parser: Parser,
    /// Decompresses messages of all connections.
    pub inflater: Inflater,
    /// Bounds on WebSocket messages.
    pub bounds: Bounds,
    /// Rate of requests of one connection; `None`: not limited.
    pub connection_rate: Option<Rate>,
    /// Rate of one connection's frames that are no accepted request; `None`: not limited.
    pub overhead_rate: Option<Rate>,
    /// Conformance mode: every message is echoed instead of parsed.
    pub echo: bool,
    /// Number of RFC 6455 violations.
    pub violations: u64,
}

impl SessionContext {
    /// Makes a context for chat.
    pub fn chat(connection_rate: Option<Rate>) -> Self {
        let bounds = Bounds {
            message_bytes_max: MESSAGE_BYTES_MAX,
            oversized_bytes_max: OVERSIZED_BYTES_MAX,
            scan: request_id_scan,
            fragments_max: FRAGMENTS_MAX,
        };
        Self {
            parser: Parser::default(),
            inflater: Inflater::default(),
            bounds,
            connection_rate,
            overhead_rate: Some(Rate::with_burst(
                OVERHEAD_FRAMES_PER_SECOND,
                OVERHEAD_FRAMES_BURST,
            )),
            echo: false,
            violations: 0,
        }
    }

    /// Makes a context for the conformance suite, which sends 16 MiB messages and 70,000 fragments.
    pub fn echo() -> Self {
        let bounds = Bounds {
            message_bytes_max: 64 << 20,
            oversized_bytes_max: 64 << 20,
            scan: request_id_scan,
            fragments_max: 1 << 20,
        };
        Self {
            parser: Parser::default(),
            inflater: Inflater::default(),
            bounds,
            connection_rate: None,
            overhead_rate: None,
            echo: true,
            violations: 0,
        }
    }
}
