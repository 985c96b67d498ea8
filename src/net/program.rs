//! The program's own file in memory: what its start has mapped of it, and its work does not need.
//!
//! When a page of the program is used for the first time, the kernel maps the 64 KiB around it, so that after a start nearly
//! all of the program counts as this process's memory, though most of it ran once or never. Given back, it stays in the page
//! cache, and what runs comes back by itself (docs/results/2026-11.md has the figures).
#![expect(unsafe_code, reason = "memory is named by its address alone")]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::with_exposed_provenance_mut;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Unmaps the program's file where memory is as the file is; returns how many bytes of memory that was. What the process uses
/// afterwards is mapped again.
///
/// # Errors
///
/// The kernel does not tell what is mapped.
pub(crate) fn unmap_clean() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let pages = File::open("/proc/self/pagemap")?;
    let mut unmapped = 0;
    for addresses in read_only(&maps, &program.to_string_lossy()) {
        let Some(resident) = clean(&states(&pages, &addresses)?) else {
            continue;
        };
        let start = with_exposed_provenance_mut(addresses.start);
        // SAFETY: the mapping is private and cannot be written, and no page of it, in memory or swapped out, differs from the
        // program's file, which nobody can write to while it runs (ETXTBSY). So a page that the kernel drops here has the same
        // bytes when it is touched again, and is read from the file. The mapping stays, so all addresses in it stay valid.
        let advised = unsafe { madvise(start, addresses.len(), Advice::LinuxDontNeed) };
        // It refuses this for locked memory, which is meant to stay.
        if advised.is_ok() {
            unmapped += resident * page_size();
        }
    }
    Ok(unmapped)
}

/// The addresses at which a text of `/proc/self/maps` has `program` privately, for reading or running alone.
fn read_only(maps: &str, program: &str) -> Vec<Range<usize>> {
    let address = |text| usize::from_str_radix(text, 16).ok();
    let found = maps.lines().filter_map(|line| {
        // Addresses, rights, offset, device, inode, and a path, which may have spaces.
        let mut fields = line.splitn(6, ' ');
        let (addresses, rights) = (fields.next()?, fields.next()?);
        let path = fields.nth(3)?.trim_start();
        if path != program || !["r--p", "r-xp"].contains(&rights) {
            return None;
        }
        let (start, end) = addresses.split_once('-')?;
        Some(address(start)?..address(end)?)
    });
    found.collect()
}

/// What `/proc/self/pagemap` says of each page at these addresses.
fn states(pages: &File, addresses: &Range<usize>) -> io::Result<Vec<u64>> {
    let at = |address: usize| address / page_size() * size_of::<u64>();
    let mut bytes = vec![0; at(addresses.end) - at(addresses.start)];
    let offset = u64::try_from(at(addresses.start)).map_err(io::Error::other)?;
    pages.read_exact_at(&mut bytes, offset)?;
    let (words, _) = bytes.as_chunks();
    Ok(words.iter().copied().map(u64::from_ne_bytes).collect())
}

/// Bits of a page in `/proc/self/pagemap`: it is in memory, it is swapped out, it is the file's.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// How many of these pages are in memory; `None` if one is not the file's: the loader wrote there before it made it read-only
/// (RELRO), or a debugger has set a breakpoint.
fn clean(states: &[u64]) -> Option<usize> {
    let own = |state: &u64| state & SWAPPED != 0 || state & (PRESENT | OF_FILE) == PRESENT;
    let present = states.iter().filter(|state| *state & PRESENT != 0);
    (!states.iter().any(own)).then(|| present.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only the program itself is unmapped, where nothing can be written. Method: lines as the kernel writes them, of which
    /// all but two differ in one thing.
    #[test]
    fn only_what_is_read_of_the_program_is_unmapped() {
        let program = "/opt/my chat/uproar (deleted)";
        let maps = "\
a1000-a2000 r--p 00001000 fe:00 1234                       /opt/my chat/uproar (deleted)
a2000-a5000 r-xp 00002000 fe:00 1234                       /opt/my chat/uproar (deleted)
b1000-b2000 rw-p 00001000 fe:00 1234                       /opt/my chat/uproar (deleted)
b2000-b3000 r-xs 00001000 fe:00 1234                       /opt/my chat/uproar (deleted)
b3000-b4000 ---p 00001000 fe:00 1234                       /opt/my chat/uproar (deleted)
b4000-b5000 r--p 00001000 fe:00 1234                       /opt/my chat/uproar
b5000-b6000 r--p 00000000 00:00 0
b6000-b7000 r--p 00000000 00:00 0 \nx-y r--p 0 0 0 /opt/my chat/uproar (deleted)\n\n";
        assert_eq!(
            read_only(maps, program),
            [0xa_1000..0xa_2000, 0xa_2000..0xa_5000]
        );
    }

    /// Goal: a mapping is left alone if one page of it is not the file's, in memory or swapped out.
    #[test]
    fn a_page_of_its_own_keeps_a_mapping() {
        assert_eq!(clean(&[]), Some(0));
        assert_eq!(
            clean(&[0, PRESENT | OF_FILE, PRESENT | OF_FILE | 7]),
            Some(2)
        );
        for own in [PRESENT, SWAPPED, SWAPPED | OF_FILE] {
            assert_eq!(clean(&[PRESENT | OF_FILE, own, 0]), None, "{own:x}");
        }
    }

    /// Goal: memory is given back, the loader's own pages stay, and everything in the program is as it was. Method: this test's
    /// own program, whose constants and whose text are in what is unmapped.
    #[test]
    fn the_program_runs_on() {
        let parsed = || read_only("1000-2000 r-xp 0 0 0 x", "x");
        let before = parsed();
        assert!(unmap_clean().expect("the kernel tells") > 100_000);
        assert_eq!(parsed(), before);
        let program = fs::read_link("/proc/self/exe").expect("a program");
        let maps = fs::read_to_string("/proc/self/maps").expect("a process");
        let pages = File::open("/proc/self/pagemap").expect("a process");
        let mappings = read_only(&maps, program.to_str().expect("text"));
        let states = mappings
            .iter()
            .map(|addresses| states(&pages, addresses).expect("mapped"));
        let (from_file, own): (Vec<_>, Vec<_>) = states.partition(|states| clean(states).is_some());
        assert!(from_file.len() >= 2, "constants and text");
        // RELRO, whose addresses were relocated: were it unmapped, this would not have come here.
        assert!(
            own.iter()
                .flatten()
                .any(|state| state & (PRESENT | OF_FILE) == PRESENT)
        );
    }
}
