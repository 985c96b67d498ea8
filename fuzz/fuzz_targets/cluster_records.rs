//! Records of a cluster's logs: foreign bytes are refused or read; what was read and is written again is read the same.
//!
//! Input: the bytes.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use uproar_proto::cluster::record::Record;

fuzz_target!(|data: &[u8]| {
    let Ok(record) = Record::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let bytes = record.encode();
    assert!(bytes.len() <= data.len(), "the shortest form");
    assert_eq!(Record::decode(&bytes), Ok(record));
});
