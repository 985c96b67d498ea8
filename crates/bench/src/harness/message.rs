//! The content of a bench message: number, time, words.
//!
//! Number and time are 16 hex digits each. The number counts the messages of a room. The time, in
//! nanoseconds of the measurement's clock, is when the message was due to be sent, not when it was:
//! a sender that falls behind shows up as latency (no coordinated omission).

use std::fmt::Write;

/// The bytes in front of the content in a MESSAGE frame.
const MARK: &[u8] = b"\"Content\":\"";
/// Digits of a number.
const HEX: usize = 16;

/// Length of the shortest content, in bytes: number and time.
pub(crate) const CONTENT_BYTES_MIN: usize = 2 * HEX;

/// Appends the content of message `number`, due at `nanos`, with words up to a length of `bytes`
/// bytes. The words depend on the number, so that messages compress no better than those of people.
pub(crate) fn content(out: &mut String, number: u64, nanos: u64, bytes: usize) {
    let _infallible = write!(out, "{number:016x}{nanos:016x}");
    let end = out.len() + bytes.saturating_sub(CONTENT_BYTES_MIN);
    let mut words = words(number);
    while out.len() < end {
        out.push(' ');
        out.extend(words.next());
    }
    out.truncate(end);
}

/// Words without end, by Knuth's MMIX generator: the same ones for the same number on every machine.
fn words(number: u64) -> impl Iterator<Item = &'static str> {
    let mut state = number;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 33) as usize % WORDS.len()]
    })
}

/// Appends the chat request that sends message `number`; the arguments are those of [`content`].
pub(crate) fn request(out: &mut String, number: u64, nanos: u64, bytes: usize) {
    out.push_str(r#"{"Action":"SEND_MESSAGE","Content":""#);
    content(out, number, nanos, bytes);
    out.push_str(r#""}"#);
}

/// Returns number and time of a MESSAGE frame, or of a plain server's frame, which begins with the
/// content; `None` if the payload is no bench message.
pub(crate) fn numbers(payload: &[u8]) -> Option<(u64, u64)> {
    let at = if payload.first() == Some(&b'{') {
        let mut windows = payload.windows(MARK.len());
        windows.position(|window| window == MARK)? + MARK.len()
    } else {
        0
    };
    let hex = |range| {
        let digits = std::str::from_utf8(payload.get(range)?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some((hex(at..at + HEX)?, hex(at + HEX..at + 2 * HEX)?))
}

/// Appends the chat request that says message `number`, as a person would, at `nanos`: who hears it finds the time in its
/// id, which comes back to the whole room.
pub(crate) fn spoken(out: &mut String, number: u64, nanos: u64) {
    let _infallible = write!(
        out,
        r#"{{"Action":"SEND_MESSAGE","RequestId":"live-{nanos:016x}","Content":""#
    );
    let length = 2 + (number % 7) as usize;
    let mut words = words(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).take(length);
    out.extend(words.next());
    for word in words {
        out.extend([" ", word]);
    }
    out.push_str(r#""}"#);
}

/// Returns when a message of [`spoken`] was said; `None` for any other frame.
pub(crate) fn spoken_at(payload: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\"RequestId\":\"live-";
    let at = payload
        .windows(MARK.len())
        .position(|window| window == MARK)?
        + MARK.len();
    let digits = std::str::from_utf8(payload.get(at..at + HEX)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Words of the chat beside a live stream, in ASCII.
const WORDS: [&str; 96] = [
    "the", "a", "is", "it", "you", "that", "this", "he", "she", "they", "what", "was", "so", "no",
    "not", "on", "in", "to", "of", "and", "for", "me", "my", "we", "just", "like", "how", "why",
    "who", "lol", "lmao", "gg", "ez", "wow", "omg", "wtf", "poggers", "hype", "lets", "gooo",
    "nice", "clip", "that", "close", "insane", "goal", "offside", "ref", "blind", "again", "still",
    "live", "stream", "lag", "audio", "low", "mic", "music", "song", "name", "please", "pls",
    "hello", "hi", "from", "brazil", "germany", "japan", "first", "time", "here", "chat", "mods",
    "ban", "spam", "stop", "camera", "quality", "1080p", "drop", "loot", "boss", "level", "team",
    "win", "lose", "never", "always", "watch", "believe", "dude", "bro", "best", "worst", "ever",
    "KEKW",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a plain server's frame is read like a MESSAGE; any other payload has no numbers.
    #[test]
    fn plain_frames_begin_with_the_numbers() {
        let mut text = String::new();
        content(&mut text, 7, 9, 64);
        assert_eq!(text.len(), 64);
        assert_eq!(numbers(text.as_bytes()), Some((7, 9)));
        for wrong in ["", "welcome", &text[..31], r#"{"Type":"ERROR"}"#] {
            assert_eq!(numbers(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
