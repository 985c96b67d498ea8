//! HTTP/1.1 and HTTP/2 around the operations: connections, bodies, signatures, CORS, ids, the
//! request log.

mod answer;
mod body;
mod calls;
mod connection;
mod console;
mod emulate;
mod exchange;
mod guarded;
pub(super) mod listen;
mod probe;
mod refused;
mod requests;
mod response;
mod rooms;
mod stream;
mod tail;
mod unread;
