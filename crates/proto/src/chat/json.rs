//! JSON text: writes escaped strings, and measures nesting before parsing.

#![expect(
    clippy::indexing_slicing,
    reason = "ends come from `position` in the same slice; digits are four bits"
)]

use bytes::BufMut;

/// Whether RFC 8259 §7 requires an escape. All other bytes, including UTF-8, are written unchanged.
const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Appends `text` as a JSON string, quotes included.
pub(super) fn string(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let plain = plain_len(rest);
        out.put_slice(&rest[..plain]);
        rest = &rest[plain..];
        if let Some((byte, after)) = rest.split_first() {
            escape(out, *byte);
            rest = after;
        }
    }
    out.put_u8(b'"');
}

/// Returns the most bytes that [`string`] writes: exact except for one byte in escapes of two.
pub(super) fn string_bytes_max(text: &str) -> usize {
    // Counted in bytes, at most 128 at a time: so the compiler counts sixteen at once.
    let escapes: usize = text
        .as_bytes()
        .chunks(128)
        .map(|chunk| {
            let escapes = chunk.iter().map(|byte| u8::from(needs_escape(*byte)));
            usize::from(escapes.sum::<u8>())
        })
        .sum();
    2 + text.len() + 5 * escapes
}

/// Returns the length of the part before the first byte to escape; checks sixteen bytes at a time.
fn plain_len(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<16>();
    let clean = chunks
        .iter()
        // No short circuit, so that the compiler compares sixteen bytes at once.
        .take_while(|chunk| {
            !chunk
                .iter()
                .fold(false, |any, byte| any | needs_escape(*byte))
        })
        .count()
        * 16;
    let rest = bytes[clean..].iter().position(|byte| needs_escape(*byte));
    rest.map_or(bytes.len(), |at| clean + at)
}

fn escape(out: &mut impl BufMut, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.put_slice(b"\\u00");
            out.put_u8(HEX[usize::from(byte >> 4)]);
            out.put_u8(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.put_slice(&[b'\\', short]);
}

/// Whether brackets outside strings nest at most `depth_max` deep. It is linear, without recursion,
/// and runs before the parser.
pub(super) fn is_shallow(json: &[u8], depth_max: usize) -> bool {
    // Most requests have fewer brackets than may nest, so their strings need not be examined.
    let brackets: usize = json
        .chunks(128)
        .map(|chunk| {
            let opening = chunk
                .iter()
                .map(|byte| u8::from(matches!(byte, b'{' | b'[')));
            usize::from(opening.sum::<u8>())
        })
        .sum();
    brackets <= depth_max || nests_at_most(json, depth_max)
}

fn nests_at_most(json: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: strings survive. Oracle: serde_json.
        #[test]
        fn strings_read_back(text in "[\\x00-\\x1f\"\\\\a-zé🔥]{0,80}") {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert!(out.len() <= string_bytes_max(&text));
            let back: String = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(back, text);
        }
    }

    /// Goal: brackets in strings do not count, brackets outside do.
    #[test]
    fn nesting_is_measured_outside_of_strings() {
        assert!(is_shallow(br#"{"a":"[[[[\"[[["}"#, 1));
        assert!(is_shallow(b"[[]]", 2));
        assert!(!is_shallow(b"[[]]", 1));
        assert!(!is_shallow(&[b'['; 10_000], 16));
    }

    proptest! {
        /// Goal: counting brackets first changes no answer.
        #[test]
        fn few_brackets_are_shallow(text in "[\\[{}\\]\"\\\\a]{0,300}", depth_max in 0_usize..20) {
            let json = text.as_bytes();
            prop_assert_eq!(is_shallow(json, depth_max), nests_at_most(json, depth_max));
        }
    }
}
