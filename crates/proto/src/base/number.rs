//! Conversions between widths that lose nothing.

const _: () = assert!(
    size_of::<usize>() <= size_of::<u64>(),
    "a length fits 64 bits"
);

/// A length, a count or an index as 64 bits.
pub const fn wide(count: usize) -> u64 {
    #[expect(
        clippy::as_conversions,
        reason = "asserted above, and `From` is not const"
    )]
    let wide = count as u64;
    wide
}
