//! What the measurements share, by subject. Between its files there are no circles.
//!
//! | files | subject |
//! |---|---|
//! | `target`, `server`, `child`, `api`, `program` | the server under test |
//! | `nodes` | nodes of a cluster, and their brokers, as processes |
//! | `across` | viewers of the same rooms at several nodes, and what they miss |
//! | `viewer`, `handshake`, `stream`, `sample`, `drain` | viewers' connections |
//! | `tls`, `viewer_stream` | TLS 1.3 on them: opened by some viewers, counted by the others |
//! | `client_protocol`, `websocket`, `nats`, `frame`, `message` | the bytes on them |
//! | `load`, `search`, `background_room`, `speakers`, `workers` | load, and the highest rate |
//! | `plain_sends`, `sealed_sends` | the kernel alone, without a server; with the sealing of TLS |
//! | `machine`, `netlink`, `poll` | the operating system |
//! | `ages`, `report`, `plot`, `flags`, `error` | figures, pictures, flags' values |

pub(crate) mod across;
pub(crate) mod ages;
pub(crate) mod api;
pub(crate) mod background_room;
pub(crate) mod caller;
pub(crate) mod child;
pub(crate) mod client_protocol;
pub(crate) mod drain;
pub(crate) mod error;
pub(crate) mod flags;
mod frame;
pub(crate) mod handshake;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod message;
mod nats;
pub(crate) mod netlink;
pub(crate) mod nodes;
pub(crate) mod plain_sends;
pub(crate) mod plot;
pub(crate) mod poll;
pub(crate) mod program;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod sealed_sends;
pub(crate) mod search;
pub(crate) mod server;
pub(crate) mod speakers;
pub(crate) mod stream;
pub(crate) mod target;
pub(crate) mod tls;
pub(crate) mod viewer;
pub(crate) mod viewer_stream;
pub(crate) mod websocket;
pub(crate) mod workers;
