//! Lone surrogates such as `\ud83d`, which JavaScript writes for a text cut through an emoji.

#![expect(
    clippy::indexing_slicing,
    reason = "positions come from `position` on the same slice, and an escape has six bytes"
)]

/// Replaces escapes of lone surrogates by `\ufffd`, which has the same length and which JSON
/// parsers of most languages read; returns whether there were any.
pub fn mend_lone_surrogates(json: &mut [u8]) -> bool {
    let (mut at, mut any) = (0, false);
    while let Some(found) = json[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        let step = match unit(&json[at..]) {
            Some(0xD800..0xDC00) if matches!(unit(&json[at + 6..]), Some(0xDC00..0xE000)) => 12,
            Some(0xD800..0xE000) => {
                json[at + 2..at + 6].copy_from_slice(b"fffd");
                any = true;
                6
            }
            Some(_) => 6,
            None => 2,
        };
        at = (at + step).min(json.len());
    }
    any
}

/// Returns the UTF-16 unit of an escape that begins here.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` would accept a sign.
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}
