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

/// Makes [`id_bytes`] repeat from here on: the same for each start with the same `seed` and number of its `sequence`. For
/// tests; keys and nonces stay hard to guess.
pub(crate) fn repeat_ids(seed: u64, sequence: u64) {
    let next = of_sequence(seed, sequence);
    *ids() = Some(Repeated { seed, next });
}

/// Repeats the first sequence from its first ids on; `false` if they do not repeat.
pub(crate) fn repeat_ids_again() -> bool {
    let seed = ids().as_ref().map(|repeated| repeated.seed);
    seed.map(|seed| repeat_ids(seed, 0)).is_some()
}

fn of_sequence(seed: u64, sequence: u64) -> fastrand::Rng {
    let mut first = fastrand::Rng::with_seed(seed);
    if sequence == 0 {
        return first;
    }
    // Generators of near seeds are shifts of one another: both numbers are spread before they are mixed.
    // Rotated, so that they do not cancel out where they are the same.
    let spread = fastrand::Rng::with_seed(sequence).u64(..).rotate_left(1);
    fastrand::Rng::with_seed(first.u64(..) ^ spread)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: sequences repeat by seed and number, and no two share an id.
    #[test]
    fn sequences_repeat_and_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in [0, 7, u64::MAX] {
            for sequence in [0, 1, 2, 3, u64::MAX] {
                let ids =
                    |mut of: fastrand::Rng| -> Vec<u64> { (0..100).map(|_| of.u64(..)).collect() };
                let all = ids(of_sequence(seed, sequence));
                assert_eq!(all, ids(of_sequence(seed, sequence)));
                seen.extend(all);
            }
        }
        assert_eq!(seen.len(), 3 * 5 * 100);
    }
}
