//! Real rings and TCP sockets, as a hand-over uses them.

mod cancel;
mod carry;
mod detach;
mod shard;
