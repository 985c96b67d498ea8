//! The process's randomness, drawn in one place.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Fills `bytes` with what nobody can guess, from the kernel: keys, nonces, ids of resources.
///
/// # Errors
///
/// The kernel gives none.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::from)
}

/// As many bytes as are asked for; see [`fill`].
///
/// # Errors
///
/// The kernel gives none.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// The source of [`id_bytes`] after [`repeat_ids`].
static IDS: Mutex<Option<Repeated>> = Mutex::new(None);

struct Repeated {
    seed: u64,
    next: fastrand::Rng,
}

/// Makes [`id_bytes`] repeat from here on: the same for each start with the same `seed`. For tests; keys and nonces
/// stay hard to guess.
pub(crate) fn repeat_ids(seed: u64) {
    let next = fastrand::Rng::with_seed(seed);
    *ids() = Some(Repeated { seed, next });
}

/// Repeats them from the first one on; `false` if they do not repeat.
pub(crate) fn repeat_ids_again() -> bool {
    let seed = ids().as_ref().map(|repeated| repeated.seed);
    seed.map(repeat_ids).is_some()
}

/// Bytes of a resource's id, or of a generator of messages' ids: as of [`bytes()`], unless [`repeat_ids`] was called.
///
/// # Errors
///
/// The kernel gives none.
pub(crate) fn id_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let Some(repeated) = &mut *ids() else {
        return bytes();
    };
    let mut bytes = [0; N];
    repeated.next.fill(&mut bytes);
    Ok(bytes)
}

fn ids() -> MutexGuard<'static, Option<Repeated>> {
    // A generator is whole at every instant.
    IDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that need not be hard to guess: pauses, ids in logs. No system call.
pub(crate) fn quick() -> fastrand::Rng {
    fastrand::Rng::new()
}
