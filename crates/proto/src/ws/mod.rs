//! RFC 6455 and RFC 7692, server side, on plain byte buffers: frames in ([`Decoder`]), frames out.
//! [`client`] alone writes what the other side sends.

mod bounds;
pub mod client;
mod decoder;
mod deflate;
mod encode;
pub mod extension;
mod header;
mod item;
mod mask;
mod oversized;
mod utf8;
mod violation;

pub use bounds::Bounds;
pub use decoder::{Decoder, Step};
pub use deflate::{Deflater, Inflater};
pub use encode::{close, is_deflated, is_whole, message, payloads, ping, pong, split};
pub(crate) use encode::{close_empty, text_frame};
pub use item::{Item, Payload, Span};
pub use violation::Violation;
