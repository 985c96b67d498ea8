//! Proof that the fuzzer sees: a planted bug behind four bytes, one comparison each. Without
//! coverage feedback the odds are one in four thousand million a try; with it, it takes seconds.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.first() == Some(&b'r')
        && data.get(1) == Some(&b'o')
        && data.get(2) == Some(&b'a')
        && data.get(3) == Some(&b'r')
    {
        panic!("the canary sang");
    }
});
