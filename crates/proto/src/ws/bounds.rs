//! The bounds of a connection on its messages.

use crate::scan::Scan;

/// Bounds on messages.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes of all fragments together, compressed or not.
    pub message_bytes_max: usize,
    /// A larger message of at most this many bytes, compressed or not, is skipped, not kept.
    pub oversized_bytes_max: usize,
    /// Makes the scan of a skipped message.
    pub scan: fn() -> Scan,
    /// Most frames of one message.
    pub fragments_max: u32,
}
