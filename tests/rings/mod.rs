//! Real rings and TCP sockets, as a hand-over uses them.

mod backends;
mod cancel;
mod carry;
mod cores;
mod detach;
mod shard;
