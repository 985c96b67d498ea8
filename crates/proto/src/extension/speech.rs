//! Texts of messages as chat modes see them: what two of them have in common, and whether one is emotes alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chat::encode;

/// A stand-in for a user or a text in what a room remembers: the same in each process, and nobody finds another text or
/// name that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(u64);

impl Key {
    /// The sender of messages, by `Sender` as JSON; the token's attributes make no difference.
    pub fn of_sender(sender_json: &str) -> Self {
        Self::finish(Sha256::new().chain_update(name(sender_json)))
    }

    /// The sender of messages, by the user's id.
    pub fn of_user(user_id: &str) -> Self {
        Self::of_sender(&encode::sender_json(user_id, []))
    }

    /// A text, whoever says it. Case, space, and characters that nobody sees make no difference.
    pub fn of_text(text: &str) -> Self {
        let mut hash = Sha256::new();
        fold(text, &mut hash);
        Self::finish(hash)
    }

    /// A text of this sender.
    pub fn of_text_by(sender_json: &str, text: &str) -> Self {
        // A name is a whole JSON string, so that no other name and text have the same bytes.
        let mut hash = Sha256::new().chain_update(name(sender_json));
        fold(text, &mut hash);
        Self::finish(hash)
    }

    fn finish(hash: Sha256) -> Self {
        let digest = hash.finalize();
        Self(
            digest
                .first_chunk()
                .map_or(0, |bytes| u64::from_be_bytes(*bytes)),
        )
    }

    /// Its bits, for another process.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A key by its bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The user id in a `Sender`'s JSON, still as a JSON string.
///
/// What ends it is found in no string: within one a quote has a backslash before it.
fn name(sender_json: &str) -> &str {
    sender_json
        .split_once(",\"Attributes\":")
        .map_or(sender_json, |(name, _)| name)
}

/// Hashes a text in small letters, with one space where it has some, without those at its ends.
fn fold(text: &str, hash: &mut Sha256) {
    let mut bytes = [0; 4];
    let (mut begun, mut space) = (false, false);
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        if c.is_whitespace() {
            space = begun;
            continue;
        }
        if std::mem::take(&mut space) {
            hash.update(b" ");
        }
        begun = true;
        for small in c.to_lowercase() {
            hash.update(small.encode_utf8(&mut bytes).as_bytes());
        }
    }
}

/// Characters with which a text looks the same: zero-width ones, directions, variants, and the tags that chat clients
/// append to a text that is refused as repeated.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether a text has no letters or digits outside names of emotes, as in `:wave:`.
pub fn is_emotes(text: &str) -> bool {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_alphanumeric() {
            return false;
        }
        rest = after_emote(rest).unwrap_or_else(|| rest.get(c.len_utf8()..).unwrap_or_default());
    }
    true
}

/// What follows the emote that a text begins with.
fn after_emote(text: &str) -> Option<&str> {
    let (name, after) = text.strip_prefix(':')?.split_once(':')?;
    let is_named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
    (!name.is_empty() && name.bytes().all(is_named)).then_some(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::encode::sender_json;

    /// Goal: texts that people take for the same are the same, others are not.
    #[test]
    fn texts_are_folded() {
        let same = [
            "Hello World",
            "hello  world",
            " HELLO\tworld\n",
            "hel\u{200B}lo world\u{E0000}",
        ];
        for text in same {
            assert_eq!(Key::of_text(text), Key::of_text("hello world"), "{text:?}");
        }
        assert_eq!(Key::of_text("ÄÖ"), Key::of_text("äö"));
        for other in ["helloworld", "hello world!", "hello", ""] {
            assert_ne!(
                Key::of_text(other),
                Key::of_text("hello world"),
                "{other:?}"
            );
        }
    }

    /// Goal: a user is the same with any attributes, and another one is not, whatever his name looks like.
    #[test]
    fn senders_are_told_apart() {
        let bob = Key::of_sender(&sender_json("bob", [("a", "b")]));
        assert_eq!(bob, Key::of_sender(&sender_json("bob", [])));
        for other in ["Bob", "bo", "bob\",\"Attributes\":{}}", "bob\\"] {
            assert_ne!(bob, Key::of_sender(&sender_json(other, [])), "{other}");
        }
        let (bo, bob) = (sender_json("bo", []), sender_json("bob", []));
        assert_ne!(Key::of_text_by(&bo, "bx"), Key::of_text_by(&bob, "x"));
        assert_ne!(Key::of_text_by(&bo, "x"), Key::of_text("x"));
    }

    /// Goal: emotes by name or by character, and punctuation, are emotes; words between them are not.
    #[test]
    fn emotes_are_known() {
        for text in [
            ":wave:",
            "🔥🔥 :a_b-1: !",
            "❤️",
            "👩‍👩‍👧",
            "🇩🇪",
            ":+1::-1:",
            ": :",
            ":wave::",
        ] {
            assert!(is_emotes(text), "{text}");
        }
        for text in [
            "hi",
            ":wave: hi",
            ":wave",
            ":two words:",
            "🔥1",
            "é",
            ":é:",
            ":a:b:",
            "日本",
            ":D",
        ] {
            assert!(!is_emotes(text), "{text}");
        }
    }

    proptest! {
        /// Goal: a text of letters and digits is taken exactly if each of them is within a name. Oracle: the names are cut out.
        #[test]
        fn emotes_are_found_as_a_reader_finds_them(parts in proptest::collection::vec("[a-z0-9]{0,3}|:[a-z_]{1,5}:|[ !🔥]{1,3}", 0..8)) {
            let is_word = |part: &String| part.starts_with(|c: char| c.is_ascii_alphanumeric());
            prop_assert_eq!(is_emotes(&parts.concat()), !parts.iter().any(is_word));
        }

        /// Goal: no text panics, and folding it again changes nothing.
        #[test]
        fn folding_is_stable(text in "\\PC{0,40}") {
            let spaced = format!("  {text}\u{200B} ");
            prop_assert_eq!(Key::of_text(&text), Key::of_text(&spaced));
            let _taken = is_emotes(&text);
        }
    }
}
