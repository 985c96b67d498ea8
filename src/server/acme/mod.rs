//! The certificate of the listeners, ordered from a certificate authority and renewed (ACME, RFC 8555).
//!
//! One task of the control thread, [`run()`], looks whether an order is [due](schedule) and makes it; shards only read what
//! is shown to the authority meanwhile ([`Challenges`]). Messages and signatures of the protocol are instant-acme's; calls
//! are [ours](caller), bounded. The account's key and the certificate are [kept](state) in the data directory, so a restart
//! orders nothing; so is when the next attempt may be made, so a process that is restarted again and again does not make a
//! stream of orders. Whoever orders holds a lock: of two processes, during an upgrade, one does.
//!
//! Nothing here ends the server: whatever fails, it goes on with the certificate it has, says so, and tries again.

mod caller;
mod challenges;
mod fault;
mod figures;
mod http;
mod order;
mod run;
mod schedule;
mod state;

pub(super) use challenges::{ACME_TLS, Challenges, Questioned};
pub(super) use run::{Wanted, run};
pub(super) use state::warning;
