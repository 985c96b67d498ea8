//! Huge pages are off for this process: they made no delivery cheaper (docs/results/2026-11.md), and the allocator's spare
//! memory would be counted in steps of 2 MiB for each thread.
//!
//! Before `main`, since what was touched before stays huge: Rust's runtime allocates first, which was 4 MiB of a server that has
//! just started.
#![expect(unsafe_code, reason = "the loader calls what stands in a section")]

/// The loader calls the functions of this section before `main`, those with lower numbers first; the allocator's has none.
// SAFETY: the section holds addresses of functions that take what the loader passes, or nothing. This one makes one system call:
// it needs nothing that has not been initialised yet, and cannot unwind.
#[used]
#[unsafe(link_section = ".init_array.00099")]
static BEFORE_MAIN: extern "C" fn() = disable;

extern "C" fn disable() {
    // A kernel that refuses it is older than any that we support; there huge pages stay on, and nothing else is different.
    let _as_it_is = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    /// Goal: it was done before anything else. Method: this test calls nothing.
    #[test]
    fn huge_pages_are_off() {
        assert!(rustix::thread::transparent_huge_pages_are_disabled().expect("the kernel tells"));
    }
}
