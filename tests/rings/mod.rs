//! Real rings and TCP sockets, as a hand-over uses them.

mod cancel;
mod detach;
mod shard;
