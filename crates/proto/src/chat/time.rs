//! `SendTime`: RFC 3339 in UTC with nanoseconds, trailing zeros trimmed (Go's RFC3339Nano).

#![expect(clippy::indexing_slicing, reason = "a number has at most nine digits")]

use bytes::BufMut;

use crate::base::clock::UnixTime;

/// Most bytes [`rfc3339`] writes, for years of four digits.
pub(super) const TIME_BYTES_MAX: usize = 30;

/// Appends the time; 20-30 ns, no allocation.
pub(super) fn rfc3339(out: &mut impl BufMut, time: UnixTime) {
    let secs = time.secs();
    let (year, month, day) = civil(secs / 86_400);
    let of_day = secs % 86_400;
    digits(out, year, 4);
    out.put_u8(b'-');
    digits(out, month, 2);
    out.put_u8(b'-');
    digits(out, day, 2);
    out.put_u8(b'T');
    digits(out, of_day / 3600, 2);
    out.put_u8(b':');
    digits(out, of_day / 60 % 60, 2);
    out.put_u8(b':');
    digits(out, of_day % 60, 2);
    let mut fraction = time.nanos() % 1_000_000_000;
    if fraction != 0 {
        let mut width = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        out.put_u8(b'.');
        digits(out, fraction, width);
    }
    out.put_u8(b'Z');
}

fn digits(out: &mut impl BufMut, mut value: u64, width: usize) {
    let mut text = [b'0'; 9];
    for digit in text[..width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
    }
    out.put_slice(&text[..width]);
}

/// Returns the proleptic Gregorian date of a day since 1970-01-01. Years count from March, so that
/// the leap day is last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
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
        /// Goal: every instant until 2500 is written correctly. Oracle: jiff.
        #[test]
        fn any_instant_reads_back(nanos in 0_u64..16_725_225_600_000_000_000) {
            let back: jiff::Timestamp = text(nanos).parse().expect("RFC 3339");
            prop_assert_eq!(back.as_nanosecond(), i128::from(nanos));
        }
    }
}
