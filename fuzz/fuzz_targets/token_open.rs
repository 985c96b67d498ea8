//! Tokens: a sealed one opens as it was sealed, and no text close to it opens at all.
//!
//! Input: four edits of three bytes (what, where, with which character), then the user id.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::token::{Capabilities, Capability, Claims, KEY_BYTES, Key, Keyring};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const LATER: UnixTime = UnixTime::from_secs(1_800_003_600);
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fuzz_target!(|data: &[u8]| {
    let Some((edits, user)) = data.split_first_chunk::<12>() else {
        return;
    };
    let mut ring = Keyring::default();
    ring.push(Key::new([7; KEY_BYTES], NOW));
    let user_id: String = String::from_utf8_lossy(user).chars().take(128).collect();
    let claims = Claims {
        room: RoomId::parse("TC6fLHr7ycLt").expect("twelve letters and digits"),
        attributes: vec![("name".into(), user_id.clone())],
        user_id,
        capabilities: Capabilities::from_iter([Capability::SendMessage]),
        expires: LATER,
        session_end: LATER,
    };
    let mut scratch = Vec::new();
    let token = ring.seal(&claims, *edits);
    let opened = ring.open(&token, &mut scratch, NOW).expect("our own token");
    assert_eq!(
        (opened.user_id(), opened.room()),
        (&*claims.user_id, claims.room)
    );
    let attribute = ("name", &*claims.user_id);
    assert!(opened.attributes().eq([attribute]));
    assert_eq!(opened.capabilities(), claims.capabilities);

    let mut forged = token.clone().into_bytes();
    for edit in edits.as_chunks::<3>().0 {
        change(&mut forged, *edit);
    }
    let forged = String::from_utf8_lossy(&forged);
    if forged != token {
        assert!(
            ring.open(&forged, &mut scratch, NOW).is_err(),
            "{forged} for {token}"
        );
    }
    let anything = String::from_utf8_lossy(user);
    assert!(
        ring.open(&anything, &mut scratch, NOW).is_err(),
        "{anything}"
    );
    let _refused_or_not = Keyring::parse(&anything);
});

fn change(token: &mut Vec<u8>, [what, place, with]: [u8; 3]) {
    if token.is_empty() {
        return;
    }
    let (at, other) = (
        usize::from(place) % token.len(),
        usize::from(with) % token.len(),
    );
    let last = token.len() - 1;
    let character = ALPHABET[usize::from(with) % ALPHABET.len()];
    match what % 8 {
        0 => {}
        1 => token[at] = character,
        2 => token[last] = character,
        3 => token.insert(at, character),
        4 => token.push(with),
        5 => drop(token.remove(at)),
        6 => token.truncate(at),
        _ => token.swap(at, other),
    }
}
