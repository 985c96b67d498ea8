//! FNV-1a: a stable hash of short keys. It decides home shards and names objects at their
//! destination, so it must never change; it withstands no attacker who chooses the keys.

/// Hashes `bytes` to 64 bits.
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Hashes `bytes` to 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the hashes are FNV-1a's. Method: test vectors of draft-eastlake-fnv.
    #[test]
    fn the_published_vectors_hold() {
        for (text, short, long) in [
            ("", 0x811c_9dc5, 0xcbf2_9ce4_8422_2325),
            ("a", 0xe40c_292c, 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0xbf9c_f968, 0x8594_4171_f739_67e8),
        ] {
            let hashes = (fnv1a_32(text.as_bytes()), fnv1a_64(text.as_bytes()));
            assert_eq!(hashes, (short, long), "{text}");
        }
    }
}
