//! RFC 6455, server side, on plain byte buffers: frames in ([`Decoder`]), frames out.

mod decoder;
mod encode;
mod mask;
mod utf8;
mod violation;

pub use decoder::{Bounds, Decoder, Item, Payload, Step};
pub use encode::{close, close_empty, message, payloads, ping, pong, text_frame};
pub use violation::Violation;
