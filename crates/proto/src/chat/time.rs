//! `SendTime`: RFC 3339 in UTC with nanoseconds, trailing zeros trimmed (Go's RFC3339Nano).

use bytes::BufMut;

use crate::base::clock::UnixTime;

/// Most bytes [`rfc3339`] writes, for years of four digits.
pub(super) const TIME_BYTES_MAX: usize = 30;

/// Appends the time; no allocation. Own lines, because a message is dated once, and a calendar's printer takes 500 instructions
/// for any form; tests hold it to that printer.
pub(super) fn rfc3339(out: &mut impl BufMut, time: UnixTime) {
    let secs = time.secs();
    let of_day = narrow(secs % DAY_SECS);
    let (year, month, day) = date(narrow(secs / DAY_SECS));
    let mut text = *b"0000-00-00T00:00:00.000000000";
    digits(&mut text[..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3600);
    digits(&mut text[14..16], of_day / 60 % 60);
    digits(&mut text[17..19], of_day % 60);
    let nanos = narrow(time.nanos() % 1_000_000_000);
    if nanos == 0 {
        out.put_slice(&text[..19]);
    } else {
        digits(&mut text[20..], nanos);
        let zeros = text.iter().rev().take_while(|digit| **digit == b'0');
        out.put_slice(&text[..text.len() - zeros.count()]);
    }
    out.put_u8(b'Z');
}

const DAY_SECS: u64 = 86_400;
/// Days of 400 years, after which the calendar repeats, and the last one of its centuries and of its groups of four years.
const DAYS_400_YEARS: u32 = 146_097;
const DAYS_100_YEARS: u32 = 36_524;
const DAYS_4_YEARS: u32 = 1_461;
/// Days from the first of March of the year 0 to the first of January 1970.
const DAYS_BEFORE: u32 = 719_468;

/// Year, month and day of a number of days since 1970, counted in years that begin with March: their leap day is the last.
fn date(days: u32) -> (u32, u32, u32) {
    let days = days + DAYS_BEFORE;
    let of_era = days % DAYS_400_YEARS;
    let leaps =
        of_era / (DAYS_4_YEARS - 1) - of_era / DAYS_100_YEARS + of_era / (DAYS_400_YEARS - 1);
    let year_of_era = (of_era - leaps) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 153 days in five.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = 400 * (days / DAYS_400_YEARS) + year_of_era + u32::from(month <= 2);
    (year, month, day)
}

/// Writes a number in as many decimal digits as there is place for.
fn digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number)
        .expect("2^64 nanoseconds are 213,503 days, and a second has a thousand million")
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

    /// Goal: every day has the calendar's date, leap years' and centuries' too.
    #[test]
    fn every_day_is_in_the_calendar() {
        for day in 0..=u64::MAX / 1_000_000_000 / DAY_SECS {
            let time = UnixTime::from_secs(day * DAY_SECS);
            assert_eq!(text(time.nanos()), time.timestamp().to_string());
        }
    }

    proptest! {
        /// Goal: every instant is read back, in the shortest form and within its bound, and is what the calendar prints.
        #[test]
        fn any_instant_reads_back(nanos: u64, zeros in 0..10_u32) {
            let nanos = nanos - nanos % 10_u64.pow(zeros);
            let text = text(nanos);
            prop_assert_eq!(&text, &UnixTime::from_nanos(nanos).timestamp().to_string());
            prop_assert!(text.len() <= TIME_BYTES_MAX, "{}", text);
            prop_assert!(!text.contains('.') || !text.ends_with("0Z"), "{}", text);
            let back: jiff::Timestamp = text.parse().expect("RFC 3339");
            prop_assert_eq!(back.as_nanosecond(), i128::from(nanos));
        }
    }
}
