//! Numbers as people read them.

use super::facts::UNLIMITED;

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    if number == UNLIMITED {
        return "unlimited".to_owned();
    }
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number, or `?` for one that cannot be read.
pub(super) fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), grouped)
}

/// Bytes in KiB or MiB, rounded up.
pub(super) fn size(bytes: Option<u64>) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        None => "?".to_owned(),
        Some(UNLIMITED) => grouped(UNLIMITED),
        Some(bytes) if bytes < MIB => format!("{} KiB", bytes.div_ceil(1024)),
        Some(bytes) => format!("{} MiB", grouped(bytes.div_ceil(MIB))),
    }
}
