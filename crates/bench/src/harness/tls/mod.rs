//! TLS 1.3 as viewers speak it (RFC 8446). rustls shakes hands; from the answer to the upgrade on,
//! the records are this module's, so that most viewers need not open theirs.
//!
//! | file | subject |
//! |---|---|
//! | `client` | what all handshakes share: suites, tickets, what was agreed |
//! | `opening` | one handshake with its upgrade, up to the answer |
//! | `keys` | records sealed and opened |
//! | `records` | records counted without being opened |
//! | `stream` | a viewer that opens its records |

pub(crate) mod client;
pub(crate) mod keys;
pub(crate) mod opening;
pub(crate) mod records;
pub(crate) mod stream;
#[cfg(test)]
pub(crate) mod testing;
