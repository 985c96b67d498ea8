//! `SendTime`: RFC 3339 in UTC with nanoseconds, trailing zeros trimmed (Go's RFC3339Nano).

use std::fmt;

use bytes::BufMut;
use jiff::fmt::StdFmtWrite;
use jiff::fmt::temporal::DateTimePrinter;

use crate::base::clock::UnixTime;

/// Most bytes [`rfc3339`] writes, for years of four digits.
pub(super) const TIME_BYTES_MAX: usize = 30;

/// Appends the time; about 40 ns, no allocation.
pub(super) fn rfc3339(out: &mut impl BufMut, time: UnixTime) {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    let text = StdFmtWrite(Text(out));
    let printed = PRINTER.print_timestamp(&time.timestamp(), text);
    printed.expect("a buffer takes all");
}

/// A buffer that text is written to.
struct Text<'a, B>(&'a mut B);

impl<B: BufMut> fmt::Write for Text<'_, B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(nanos: u64) -> String {
        let mut out = Vec::new();
        rfc3339(&mut out, UnixTime::from_nanos(nanos));
        String::from_utf8(out).expect("ASCII")
    }

    /// Goal: times have the forms that the service sends.
    #[test]
    fn trailing_zeros_are_trimmed() {
        assert_eq!(
            text(1_669_969_280_754_555_595),
            "2022-12-02T08:21:20.754555595Z"
        );
        assert_eq!(
            text(1_669_969_551_136_912_720),
            "2022-12-02T08:25:51.13691272Z"
        );
        assert_eq!(text(1_669_969_551_000_000_000), "2022-12-02T08:25:51Z");
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
    }

    proptest! {
        /// Goal: every instant until 2500 is read back, in the shortest form and within its bound.
        #[test]
        fn any_instant_reads_back(nanos in 0_u64..16_725_225_600_000_000_000) {
            let text = text(nanos);
            prop_assert!(text.len() <= TIME_BYTES_MAX, "{}", text);
            prop_assert!(!text.contains('.') || !text.ends_with("0Z"), "{}", text);
            let back: jiff::Timestamp = text.parse().expect("RFC 3339");
            prop_assert_eq!(back.as_nanosecond(), i128::from(nanos));
        }
    }
}
