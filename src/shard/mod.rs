//! One core: its ring, its connections, its rooms, its mailboxes.

pub mod gateway;
