//! The admin socket: `admin.sock` in the data directory, through which a server's operator gives it
//! orders. docs/admin-socket.md is its protocol.
//!
//! Who may: the server's user and root, as the kernel says of the peer; no access key is needed.

mod client;
mod listen;
mod message;
mod reply;
mod rooms;
mod socket;

pub(crate) use client::{AskError, ask, ask_to_join, ask_within};
pub(super) use client::{is_served, order_take_over, refusal_in};
pub(super) use listen::AdminSocket;
pub(crate) use message::{DrainOrder, Health, Order, Refusal, RefusalCode};
pub(super) use reply::Reply;
pub(crate) use rooms::{By, CallOrder, JoinOrder, RoomOrder, RoomsOrder};
