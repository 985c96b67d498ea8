//! What nodes of a cluster send each other: foreign bytes are refused or read; what was read and is written again is
//! read the same, and the texts of requests are those that were sent.
//!
//! Input: the bytes.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use uproar_proto::cluster::crowd::{Crowd, decode_addresses, decode_users, encode_users};
use uproar_proto::cluster::here::Here;
use uproar_proto::cluster::message::{AskTexts, Message, MessageContent, SPEAKER_BYTES};
use uproar_proto::extension::unique::UniqueUsers;

fuzz_target!(|data: &[u8]| {
    let data = Bytes::copy_from_slice(data);
    if let Ok(here) = Here::decode(&data) {
        assert_eq!(Here::decode(&here.encode()), Ok(here));
    }
    if let Ok(crowd) = Crowd::decode(&data) {
        assert_eq!(Crowd::decode(&crowd.encode()), Ok(crowd));
    }
    if let Ok(users) = decode_users(&data) {
        assert_eq!(decode_users(&encode_users(&users)), Ok(users));
    }
    let _addresses = decode_addresses(&data);
    if let Some(unique) = UniqueUsers::read(&data) {
        let mut again = Vec::new();
        unique.write(&mut again);
        assert!(again.len() <= data.len(), "each user once");
        assert!(UniqueUsers::read(&again).is_some());
    }
    let Ok(message) = Message::decode(&data) else {
        return;
    };
    // A request of an older server says nothing of its speaker, and is written with that.
    let mut longer = 0;
    if let MessageContent::Requests { requests, .. } = &message.content {
        longer = SPEAKER_BYTES * requests.iter().flatten().count();
        for ask in requests.iter().flatten() {
            let again = AskTexts::new(&mut BytesMut::new(), ask.texts.get());
            assert_eq!(again, ask.texts);
        }
    }
    let bytes = message.encode();
    assert!(bytes.len() <= data.len() + longer, "the shortest form");
    assert_eq!(Message::decode(&bytes), Ok(message));
});
