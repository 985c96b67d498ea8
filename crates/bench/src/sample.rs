//! A sampled receiver: every frame parsed for its number and age.
//!
//! The content of a bench message is `<number><nanoseconds><words>`, the first two as 16 hex digits: the
//! number counts a room's messages, the nanoseconds are when the message was meant to be sent, so that
//! a sender that falls behind shows up as latency (no coordinated omission).

use std::io;
use std::net::TcpStream;

use hdrhistogram::Histogram;

use super::dialect::Dialect;
use super::wire::Inbox;
use uproar_proto::base::limits::FRAME_BYTES_MAX;
use uproar_proto::ws::Inflater;

/// What stands in front of the content in a MESSAGE frame.
const MARK: &[u8] = b"\"Content\":\"";
const HEX: usize = 16;

/// Length of the smallest content a bench message can have.
pub const CONTENT_BYTES_MIN: usize = 2 * HEX;

/// The content of message `number`, meant to be sent at `nanos`, with as many words of a chat as make
/// `bytes` bytes: no two messages compress alike, as in life.
pub fn content(out: &mut String, number: u64, nanos: u64, bytes: usize) {
    use std::fmt::Write;
    let _infallible = write!(out, "{number:016x}{nanos:016x}");
    let end = out.len() + bytes.saturating_sub(CONTENT_BYTES_MIN);
    let mut state = number;
    while out.len() < end {
        // Knuth's MMIX generator: the same words for the same number everywhere.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.push(' ');
        out.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
    }
    out.truncate(end);
}

/// What is said in the chat of a stream, in ASCII.
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

/// The request that says it in a room.
pub(super) fn request(out: &mut String, number: u64, nanos: u64, bytes: usize) {
    out.push_str(r#"{"Action":"SEND_MESSAGE","Content":""#);
    content(out, number, nanos, bytes);
    out.push_str(r#""}"#);
}

/// What one sampled receiver saw.
#[derive(Debug)]
pub struct Sample {
    /// Where its frames come in.
    pub inbox: Inbox,
    /// The next number expected.
    pub next: u64,
    /// Numbers that never came.
    pub lost: u64,
    /// Numbers that came again, or too late.
    pub repeated: u64,
    /// Bytes of whole frames, headers included.
    pub bytes: u64,
    /// Frames that carry a bench message.
    pub messages: u64,
    /// Answers that are errors: the server refused a message.
    pub errors: u64,
    inflater: Inflater,
}

impl Sample {
    /// From a connection that has just shaken hands.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(stream, BUFFER_BYTES)?,
            next: 0,
            lost: 0,
            repeated: 0,
            bytes: 0,
            messages: 0,
            errors: 0,
            inflater: Inflater::default(),
        })
    }

    /// From a server of that dialect.
    #[must_use]
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.inbox.dialect = dialect;
        self
    }

    /// Reads what is there; notes the age of each message in microseconds, at `clock` after each read.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the server closed the connection; the kernel's.
    pub fn read(
        &mut self,
        clock: impl Fn() -> u64,
        ages: &mut Histogram<u64>,
        count_from: u64,
    ) -> io::Result<()> {
        self.inbox.read(clock, |frame| {
            let read = if frame.deflated {
                let plain = self.inflater.inflate(frame.payload, FRAME_BYTES_MAX);
                plain.ok().and_then(|(text, len)| numbers(&text[..len]))
            } else {
                numbers(frame.payload)
            };
            let Some((number, sent)) = read else {
                self.errors += 1;
                return;
            };
            self.bytes += frame.bytes;
            self.messages += 1;
            if number < self.next {
                self.repeated += 1;
            } else {
                self.lost += number - self.next;
                self.next = number + 1;
            }
            if number >= count_from {
                ages.saturating_record(frame.now.saturating_sub(sent) / 1000);
            }
        })
    }
}

/// Number and time in a MESSAGE frame's content, or at the start of a plain server's frame.
pub(super) fn numbers(payload: &[u8]) -> Option<(u64, u64)> {
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

/// What one read of a sampled receiver takes.
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Goal: loss, repetition and age are seen, across reads that cut frames anywhere.
    #[test]
    fn loss_and_repetition_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut sample = Sample::new(client).expect("non-blocking");
        let mut ages = Histogram::new_with_bounds(1, 10_000, 3).expect("valid");
        let mut wire = Vec::new();
        for number in [0_u64, 1, 4, 4, 5] {
            let mut text = String::from(r#"{"Type":"MESSAGE","Content":""#);
            content(&mut text, number, 1_000_000, 200);
            text.push_str(r#""}"#);
            wire.extend([0x81, 126]);
            wire.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
            wire.extend(text.as_bytes());
        }
        for part in wire.chunks(100) {
            server.write_all(part).expect("loopback");
            // Loopback hands bytes over within the write.
            sample.read(|| 3_000_000, &mut ages, 0).expect("open");
        }
        while sample.messages < 5 {
            sample.read(|| 3_000_000, &mut ages, 0).expect("open");
        }
        assert_eq!((sample.next, sample.lost, sample.repeated), (6, 2, 1));
        assert_eq!(sample.bytes, wire.len() as u64);
        assert_eq!((ages.len(), ages.min()), (5, 2000));
    }

    /// Goal: what a plain server sends back counts like a MESSAGE; anything else is an error.
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
