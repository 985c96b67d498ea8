//! Foreign text, made safe for a log line.

use std::borrow::Cow;

use uproar_proto::base::limits::LOG_TEXT_CHARS_MAX;

/// At most [`LOG_TEXT_CHARS_MAX`] characters of `text`; a cut is shown as `…`. Give it to `tracing` as a string
/// (`field = &*bounded(text)`), not by `%`: strings are escaped.
pub(crate) fn bounded(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LOG_TEXT_CHARS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// An error and its causes, each once: many a library's own text is only "client error".
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// One event, one line: any control character left within `line` is escaped. `ESC` stays if `colours` are on;
/// `tracing` has escaped those of values.
pub(super) fn one_line(line: &[u8], colours: bool) -> Vec<u8> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let mut out = Vec::with_capacity(text.len() + 1);
    for byte in text {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x1b if colours => out.push(*byte),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no text can make a second line, or move the reader's cursor.
    #[test]
    fn an_event_is_one_line() {
        let shown = one_line(b"a\nb\r\x1b[2J\x00c\n", false);
        assert_eq!(shown, b"a\\nb\\r\\x1b[2J\\x00c\n");
        assert_eq!(one_line(b"\x1b[1mx", true), b"\x1b[1mx\n");
    }

    /// Goal: long text is cut at a character boundary, visibly.
    #[test]
    fn text_is_cut() {
        assert_eq!(bounded("é"), "é");
        let cut = bounded(&"é".repeat(1000)).into_owned();
        assert_eq!(cut.chars().count(), LOG_TEXT_CHARS_MAX + 1);
        assert!(cut.ends_with('…'));
    }
}
