//! Tagged fields: what one version of the server writes for another one to read.
//!
//! A field is a number, a length and that many bytes. A reader skips numbers it does not know, and
//! refuses what lacks a number it needs. So a version may add fields, and leave out those that
//! another one does not need. A number keeps its meaning for ever.
//!
//! Number and length are LEB128, as in DWARF and WebAssembly: seven bits a byte, lowest first. A
//! value is bytes, a number (little-endian, without the zero bytes at its end), or again fields.

/// Writes fields.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Appends a field.
    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.leb128(number.into());
        self.leb128(u64::try_from(value.len()).expect("64 bits"));
        self.0.extend_from_slice(value);
    }

    /// Appends a field whose value is a number.
    pub fn number(&mut self, number: u32, value: u64) {
        let bytes = value.to_le_bytes();
        let len = bytes.len() - usize::try_from(value.leading_zeros() / 8).expect("at most 8");
        self.bytes(number, bytes.get(..len).unwrap_or_default());
    }

    /// Appends a field whose value is fields. They are copied once.
    pub fn nested(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the encoded fields.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn leb128(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7F);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// Why fields are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They end within a field, or a length exceeds what is there.
    #[error("the fields are cut off")]
    Cut,
    /// A needed field is not there.
    #[error("field {0} is missing")]
    Missing(u32),
    /// A field has a value that it cannot have.
    #[error("field {0} has no valid value")]
    Value(u32),
}

/// Encoded fields that were found to be whole. Values are borrowed: reading allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Tagged<'a>(&'a [u8]);

impl<'a> Tagged<'a> {
    /// Checks that `bytes` are whole fields.
    ///
    /// # Errors
    ///
    /// [`Fault::Cut`] if they are not.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, _, rest) = split(rest).ok_or(Fault::Cut)?;
        }
        Ok(Self(bytes))
    }

    /// Returns every field with its number, in the order of writing.
    pub fn fields(self) -> impl Iterator<Item = (u32, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (number, value, after) = split(rest)?;
            rest = after;
            Some((number, value))
        })
    }

    /// Returns every field of a repeated number, in the order of writing.
    pub fn all(self, wanted: u32) -> impl Iterator<Item = &'a [u8]> {
        let found = move |(number, value)| (number == wanted).then_some(value);
        self.fields().filter_map(found)
    }

    /// Returns a field; the first, if there are several.
    pub fn get(self, wanted: u32) -> Option<&'a [u8]> {
        self.all(wanted).next()
    }

    /// Returns a field that must be there.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn need(self, wanted: u32) -> Result<&'a [u8], Fault> {
        self.get(wanted).ok_or(Fault::Missing(wanted))
    }

    /// Returns a field that is a number.
    ///
    /// # Errors
    ///
    /// [`Fault::Value`] if it has more than eight bytes.
    pub fn number(self, wanted: u32) -> Result<Option<u64>, Fault> {
        let Some(value) = self.get(wanted) else {
            return Ok(None);
        };
        let mut bytes = [0; 8];
        let low = bytes.get_mut(..value.len()).ok_or(Fault::Value(wanted))?;
        low.copy_from_slice(value);
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// Returns a field that is a number and must be there.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], [`Fault::Value`].
    pub fn need_number(self, wanted: u32) -> Result<u64, Fault> {
        self.number(wanted)?.ok_or(Fault::Missing(wanted))
    }

    /// Returns a field that is text and must be there.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], [`Fault::Value`] if it is not UTF-8.
    pub fn need_text(self, wanted: u32) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.need(wanted)?).map_err(|_| Fault::Value(wanted))
    }

    /// Returns a field that is fields.
    ///
    /// # Errors
    ///
    /// [`Fault::Cut`].
    pub fn nested(self, wanted: u32) -> Result<Option<Self>, Fault> {
        self.get(wanted).map(Self::parse).transpose()
    }
}

/// Splits the first field off: its number, its value, the rest.
fn split(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = leb128(bytes)?;
    let (len, rest) = leb128(rest)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((u32::try_from(number).ok()?, value, rest))
}

fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(LEB128_BYTES_MAX) {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Most bytes of a number or a length: 63 bits.
const LEB128_BYTES_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: an older reader passes over what a newer writer adds, and says what it needs.
    #[test]
    fn unknown_fields_are_skipped_and_missing_ones_named() {
        let mut fields = Fields::default();
        fields.number(900, 7);
        fields.bytes(1, b"one");
        fields.nested(2, |inner| inner.number(5, 1 << 40));
        fields.bytes(1, b"again");
        let bytes = fields.into_bytes();
        let read = Tagged::parse(&bytes).expect("whole");
        assert_eq!(read.need(1), Ok(&b"one"[..]));
        assert_eq!(read.all(1).count(), 2);
        let inner = read.nested(2).expect("whole").expect("written");
        assert_eq!(inner.need_number(5), Ok(1 << 40));
        assert_eq!(read.need(3), Err(Fault::Missing(3)));
        assert_eq!(read.number(1), Ok(Some(0x65_6E_6F)));
        let long = [4, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            Tagged::parse(&long).expect("whole").number(4),
            Err(Fault::Value(4))
        );
    }

    proptest! {
        /// Goal: what is written is read, and what is cut off anywhere but between fields is refused.
        #[test]
        fn fields_survive(
            fields in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            number in any::<u64>(),
        ) {
            let mut written = Fields::default();
            let mut ends = vec![0];
            for (tag, value) in &fields {
                written.bytes(*tag, value);
                ends.push(written.len());
            }
            let mut numbers = Fields::default();
            numbers.number(3, number);
            let numbers = numbers.into_bytes();
            prop_assert_eq!(Tagged::parse(&numbers).expect("whole").need_number(3), Ok(number));
            let bytes = written.into_bytes();
            let read = Tagged::parse(&bytes).expect("whole");
            let read: Vec<_> = read.fields().map(|(tag, value)| (tag, value.to_vec())).collect();
            prop_assert_eq!(&read, &fields);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Tagged::parse(&bytes[..cut]).is_ok(), ends.contains(&cut));
            }
        }

        /// Goal: foreign bytes are refused or read, never a panic.
        #[test]
        fn foreign_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = Tagged::parse(&bytes) {
                let total: usize = read.fields().map(|(_, value)| value.len()).sum();
                prop_assert!(total <= bytes.len());
                let _any = read.number(1);
            }
        }
    }
}
