//! Bytes in and out: the shard's ring, sockets, TLS. The only layer with `unsafe`.

pub mod buffers;
pub mod event;
pub mod io;
pub mod listener;
pub mod ring;
pub mod rings;
pub mod socket;
pub mod stream;
pub mod tls;
