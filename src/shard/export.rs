//! What a shard's thread does with completions, and with a frozen core whose viewers go to another process.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::carry::{CarryFault, Leaving, send_viewers};
use super::core::Core;
use super::estate::{Carried, ViewersCursor};
use crate::net::backend::{Backend, Completion, Received};
use crate::net::pass::Connection;
use uproar_proto::base::limits::CARRY_MAX;

/// Hands the core a completion, and returns the receive buffer to the kernel.
pub fn complete<B: Backend>(core: &mut Core<B>, completion: Completion<B::Buffer>) {
    match completion {
        Completion::Received {
            key,
            buffer: Some(mut buffer),
            result,
            more,
        } => {
            let len = buffer.received();
            core.received(key, Some((buffer.bytes(), len)), &result, more);
            core.io_mut().recycle(buffer);
        }
        Completion::Received {
            key,
            buffer: None,
            result,
            more,
        } => {
            core.received(key, None, &result, more);
        }
        Completion::Sent {
            key,
            outgoing,
            result,
        } => core.sent(key, outgoing, &result),
        Completion::Writable { key, outgoing } => core.writable(key, outgoing),
    }
}

/// Sends all viewers of a frozen core through `stream`, `batch` at once. It blocks the thread, whose core has nothing to
/// do meanwhile, and leaves the core as it was.
///
/// `alive` is called every quarter of a second while the thread waits for the other process.
///
/// # Errors
///
/// See [`CarryFault`].
pub fn export<B: Backend>(
    core: &mut Core<B>,
    stream: &Connection,
    batch: usize,
    alive: impl FnMut(),
) -> Result<Carried, CarryFault> {
    if !core.is_frozen() {
        return Err(CarryFault::Serving);
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a deadline of blocking system calls, while no turn is taken"
    )]
    let deadline = Instant::now() + CARRY_MAX;
    let mut frozen = Frozen {
        core,
        alive,
        cursor: ViewersCursor::default(),
    };
    let sent = send_viewers(&mut frozen, stream, batch, deadline)?;
    let carried = frozen.cursor.carried();
    debug_assert_eq!(sent.viewers, carried.viewers, "each has a record");
    Ok(carried)
}

/// A frozen core on its thread.
struct Frozen<'a, B: Backend, F> {
    core: &'a mut Core<B>,
    alive: F,
    cursor: ViewersCursor,
}

impl<B: Backend, F: FnMut()> Leaving for Frozen<'_, B, F> {
    type Place = B::Place;

    fn next_page(&mut self, most: usize) -> Vec<(B::Place, Vec<u8>)> {
        let (page, cursor) = self.core.viewers(self.cursor, most);
        self.cursor = cursor;
        let places = page
            .into_iter()
            .map(|(file, record)| (B::place(file), record));
        places.collect()
    }

    fn detach(&mut self, places: &[B::Place]) -> io::Result<Vec<OwnedFd>> {
        let mut others = Vec::new();
        let made = self.core.io_mut().detach(places, &mut others);
        // Of connections that were over before, and have no record.
        for completion in others {
            complete(self.core, completion);
        }
        made
    }

    fn alive(&mut self) {
        (self.alive)();
    }
}
