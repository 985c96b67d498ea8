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
    pub(super) parser: Parser,
    /// Decompresses messages of all connections.
    pub(super) inflater: Inflater,
    /// Bounds on WebSocket messages.
    pub(super) bounds: Bounds,
    /// Rates of one connection.
    pub(super) rates: Rates,
    /// Conformance mode: every message is echoed instead of parsed.
    pub(super) echo: bool,
    // The id of the last request that was refused without being parsed.
    pub(super) refused_id: String,
}

/// Rates of one connection; `None`: not limited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    // Of its requests, accepted or not.
    pub(super) requests: Option<Rate>,
    // Of its frames that are no accepted request.
    pub(super) overhead: Option<Rate>,
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
            rates: Rates {
                requests: connection_rate,
                overhead: Some(Rate::with_burst(
                    OVERHEAD_FRAMES_PER_SECOND,
                    OVERHEAD_FRAMES_BURST,
                )),
            },
            echo: false,
            refused_id: String::new(),
        }
    }

    /// Changes the rate of requests of one connection, unless this is the conformance suite's. What a connection has
    /// used of its budget stays used.
    pub fn set_connection_rate(&mut self, connection_rate: Option<Rate>) {
        if !self.echo {
            self.rates.requests = connection_rate;
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
            rates: Rates {
                requests: None,
                overhead: None,
            },
            echo: true,
            refused_id: String::new(),
        }
    }
}
