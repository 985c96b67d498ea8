//! Bytes in and out: the shard's ring, sockets, TLS. The only layer with `unsafe`.

pub(crate) mod buffers;
pub(crate) mod event;
pub(crate) mod inherited;
pub mod io;
pub(crate) mod listener;
pub mod pass;
pub mod ring;
pub mod rings;
pub mod sealed;
pub(crate) mod socket;
pub(crate) mod stream;
pub mod tls;
