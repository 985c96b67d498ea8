//! Tagged fields: foreign bytes are refused or read; what was read and is written again is read the same.
//!
//! Input: the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::tagged::{Fields, Tagged};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = Tagged::parse(data) else {
        return;
    };
    let mut written = Fields::default();
    for (number, value) in read.fields() {
        written.bytes(number, value);
        let _is_number = read.number(number);
        if let Ok(Some(inner)) = read.nested(number) {
            assert!(
                inner.fields().map(|(_, value)| value.len()).sum::<usize>()
                    <= value.len().max(data.len())
            );
        }
    }
    let bytes = written.into_bytes();
    assert!(bytes.len() <= data.len(), "the shortest form");
    let again = Tagged::parse(&bytes).expect("just written");
    assert!(again.fields().eq(read.fields()));
});
