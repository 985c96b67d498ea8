//! The protocol by which a new process takes over from the one that serves: its messages, and both sides as state
//! machines that know no socket, no process and no clock. `server::upgrade` drives them.
//!
//! The old process leads. Its phases, and what the new one says in each:
//!
//! | phase | old process | new process |
//! |---|---|---|
//! | prepare | judges [`messages::Hello`]: [`messages::Old::Welcome`] or `Refused` | says hello |
//! | load | pauses the API, says `Yours` with the lock and all listeners | starts on them, says `Loaded` |
//! | freeze | closes the doors, stops every shard between two messages | waits |
//! | export | sends rooms, then viewers | installs both, touches nothing, says `Prepared` |
//! | commit | says `Commit`, and exits at `Committed` | says `Committed`, then serves, then says `Serving` |
//!
//! # Who serves
//!
//! Exactly one process, whatever happens to the other:
//!
//! - The old one serves until it has read `Committed`. Before that it can take everything back, and does so only
//!   when the new process is gone for certain: it kills it and waits for its pidfd.
//! - The new one serves only after it has *said* `Committed`, and has touched nothing until then; or when the old one is
//!   gone for certain, which is both the end of the connection and a readable pidfd. Silence is never death: a stopped
//!   process may go on.
//! - A process that was killed may have said more than was read. So the end of a process counts only when everything
//!   it has said was read.
//!
//! `model.rs` tries every order of events, with either process killed or stopped at each of them.

pub(crate) mod messages;
#[cfg(test)]
mod model;
pub(crate) mod new;
pub(crate) mod old;
