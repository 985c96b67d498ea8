//! Bytes in and out: the shard's rings or epoll, sockets, TLS, and the program's own file in memory. The only layer with
//! `unsafe`.

pub mod backend;
pub(crate) mod buffers;
pub mod capacity;
pub mod epoll;
pub(crate) mod event;
pub(crate) mod inherited;
pub mod io;
pub(crate) mod listener;
pub mod pass;
pub(crate) mod program;
pub(crate) mod records;
pub mod ring;
pub mod rings;
pub mod sealed;
mod small_pages;
pub(crate) mod socket;
pub(crate) mod stream;
pub mod tls;
pub(crate) mod traffic;
