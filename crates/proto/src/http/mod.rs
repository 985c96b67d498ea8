//! The messaging listener's HTTP/1.1: request heads in, upgrade answers and refusals out.
//!
//! The parser is strict where leniency has caused vulnerabilities: folded lines, bare line ends,
//! bodies on an upgrade, repeated or odd headers are refused with 400 and the connection is closed,
//! so no bytes after a head are ever taken for a second request.

mod answer;
mod fault;
mod host;
mod request;
mod scanner;
#[cfg(test)]
mod tests;

pub use answer::{cut_body, plain, refusal, switching_protocols};
pub use fault::HeadFault;
pub use host::is_own_name;
pub use request::{Request, Upgrade, field_values, parse};
pub use scanner::{HeadScanner, is_without_tls};
