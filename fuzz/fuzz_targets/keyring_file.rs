//! The file of sealing keys: what is read is written as it was read, and a ring that was read opens what it seals.
//!
//! Input: the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::token::{Capabilities, Claims, Keyring};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Ok(mut ring) = Keyring::parse(&text) else {
        return;
    };
    let written = ring.to_text();
    let again = Keyring::parse(&written).expect("our own file");
    assert_eq!(*written, *again.to_text());
    let claims = Claims {
        room: RoomId::parse("TC6fLHr7ycLt").expect("twelve letters and digits"),
        attributes: Vec::new(),
        user_id: "u".to_owned(),
        capabilities: Capabilities::default(),
        expires: UnixTime::from_secs(1_800_003_600),
        session_end: UnixTime::from_secs(1_800_003_600),
    };
    let token = ring.seal(&claims, [7; 12]);
    assert!(again.open(&token, &mut Vec::new(), NOW).is_ok());
    // A successor becomes the first, and the old one still opens.
    ring.promote();
    ring.retire(NOW, std::time::Duration::from_secs(86_400));
    let _opens_or_retired = ring.open(&token, &mut Vec::new(), NOW);
});
