//! Sealed memory files: bytes too many for a message, which nobody can change any more.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// Neither its length nor its content changes, and nobody can allow it.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE)
    .union(SealFlags::SEAL);

/// Makes a sealed memory file with `parts` one after another. `name` is for people who look at `/proc`.
///
/// # Errors
///
/// `EMFILE`, or missing memory.
pub fn seal(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let mut file = std::fs::File::from(memfd_create(name, flags)?);
    for part in parts {
        file.write_all(part)?;
    }
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Why a memory file was not read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its sender could still change it.
    #[error("the memory file is not sealed")]
    Unsealed,
    /// It is longer than expected.
    #[error("the memory file has {length} bytes, at most {most}")]
    Length {
        /// Its bytes.
        length: u64,
        /// The most expected.
        most: u64,
    },
    /// An error of the kernel, above all missing memory.
    #[error(transparent)]
    Kernel(#[from] io::Error),
}

/// Reads the content of a sealed memory file of at most `most` bytes.
///
/// # Errors
///
/// See [`SealError`].
pub fn unseal(file: OwnedFd, most: u64) -> Result<Vec<u8>, SealError> {
    // Other descriptors know no seals: an error.
    let seals = fcntl_get_seals(file.as_fd()).map_err(|_| SealError::Unsealed)?;
    if !seals.contains(SEALS) {
        return Err(SealError::Unsealed);
    }
    let file = std::fs::File::from(file);
    let length = file.metadata()?.len();
    let len = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err(SealError::Length { length, most });
    }
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(len);
    reserved.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.resize(len, 0);
    // From the start: its sender's position is shared.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what was sealed is read back, whatever its sender's position; nobody can change it; what is unsealed, too
    /// long or no memory file is refused.
    #[test]
    fn a_sealed_file_keeps_its_content() {
        let sealed = seal("test", &[b"one", b"", b"two"]).expect("memory");
        let mut writer = std::fs::File::from(sealed.try_clone().expect("a descriptor"));
        assert!(writer.write_all(b"three").is_err());
        assert!(writer.set_len(0).is_err() && writer.set_len(10).is_err());
        let clone = sealed.try_clone().expect("a descriptor");
        assert_eq!(unseal(clone, 6).expect("sealed"), b"onetwo");
        let long = unseal(sealed, 5).expect_err("six bytes");
        assert!(matches!(long, SealError::Length { length: 6, most: 5 }));
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = memfd_create("test", flags).expect("memory");
        fcntl_add_seals(&open, SealFlags::SHRINK | SealFlags::GROW).expect("allowed");
        assert!(matches!(unseal(open, 9), Err(SealError::Unsealed)));
        let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("descriptors");
        assert!(matches!(unseal(socket.into(), 9), Err(SealError::Unsealed)));
    }
}
