//! The process's randomness, drawn in one place.

use std::io;

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

/// Numbers that need not be hard to guess: pauses, ids in logs. No system call.
pub(crate) fn quick() -> fastrand::Rng {
    fastrand::Rng::new()
}
