//! Checks UTF-8 as it arrives: a message is refused at its first impossible byte, whatever the
//! chunks (RFC 6455 §8.1).

#![expect(
    clippy::indexing_slicing,
    reason = "at most three bytes of a character are held"
)]

/// The start of a character that a chunk boundary cut off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8 {
    held: [u8; 3],
    held_count: usize,
}

/// The bytes are not UTF-8, and no further bytes can mend that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

impl Utf8 {
    /// Checks the next bytes of the text.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), Invalid> {
        while self.held_count > 0 {
            let Some((next, rest)) = bytes.split_first() else {
                return Ok(());
            };
            let mut character = [0; 4];
            character[..self.held_count].copy_from_slice(&self.held[..self.held_count]);
            character[self.held_count] = *next;
            let character = &character[..=self.held_count];
            bytes = rest;
            match std::str::from_utf8(character) {
                Ok(_) => self.held_count = 0,
                Err(error) if error.error_len().is_none() => self.hold(character),
                Err(_) => return Err(Invalid),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                self.hold(&bytes[error.valid_up_to()..]);
                Ok(())
            }
            Err(_) => Err(Invalid),
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(self) -> bool {
        self.held_count == 0
    }

    fn hold(&mut self, start: &[u8]) {
        // The standard library calls a sequence incomplete only while a byte is missing, so it has
        // at most 3.
        self.held[..start.len()].copy_from_slice(start);
        self.held_count = start.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_in_chunks(bytes: &[u8], chunk: usize) -> bool {
        let mut utf8 = Utf8::default();
        bytes.chunks(chunk).all(|part| utf8.check(part).is_ok()) && utf8.is_complete()
    }

    proptest! {
        /// Goal: the verdict does not depend on chunks. Oracle: the standard library on the whole
        /// text.
        #[test]
        fn chunks_agree_with_the_whole(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0xF0), Just(0x9F), Just(0x98), Just(0x80), Just(0xED)],
                0..40,
            ),
            text in ".{0,20}",
            chunk in 1_usize..7,
        ) {
            prop_assert_eq!(check_in_chunks(&bytes, chunk), std::str::from_utf8(&bytes).is_ok());
            prop_assert!(check_in_chunks(text.as_bytes(), chunk));
        }
    }

    /// Goal: a text is refused at the first impossible byte, not at the end of the character.
    #[test]
    fn an_impossible_start_fails_fast() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.check(&[0xF4]), Ok(()));
        assert_eq!(utf8.check(&[0x90]), Err(Invalid));
    }
}
