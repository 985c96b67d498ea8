//! Slot tables: slabs whose keys carry a generation, so that a stale key finds nothing.
//!
//! A table grows by a page at a time: no entry is ever copied, so that the millionth connection
//! causes no pause, and at most a page is allocated but unused.

#![expect(
    clippy::indexing_slicing,
    reason = "page numbers are made by the table, offsets by the slab"
)]

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use slab::Slab;

/// Index and generation of an entry in a [`Table<T>`]. The type parameter keeps the slots of two
/// tables apart.
pub struct Slot<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Slot<T> {
    /// A slot that finds nothing in any table.
    pub const NOWHERE: Self = Self::from_bits(0xFFFF_FFFF);

    /// From [`Slot::to_bits`]. A made-up value finds nothing or a living entry, but does no harm.
    pub const fn from_bits(bits: u64) -> Self {
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            reason = "the two halves of a u64"
        )]
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
            of: PhantomData,
        }
    }

    /// Index and generation in one word.
    #[expect(clippy::as_conversions, reason = "u64::from is not const")]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The position in the table; unique among living entries.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Counts the entries that lived at this index before.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}
impl<T> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}
impl<T> Eq for Slot<T> {}
impl<T> Hash for Slot<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}
impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

/// Entries of one page.
const PAGE: usize = 1024;
const PAGE_BITS: u32 = PAGE.trailing_zeros();

/// Entries in pages, addressed by [`Slot`].
#[derive(Debug)]
pub struct Table<T> {
    // Entries with the generation of each; a page has memory for `PAGE` entries from its first one
    // on.
    pages: Vec<Slab<(u32, T)>>,
    // Indexes of the pages with a free entry, each once; the last one is filled first.
    vacant: Vec<u32>,
    // Number of entries alive: the sum over `pages`.
    len: usize,
    // Of the newest entry, 30 bits: a slot is reused with another generation until these wrap
    // around.
    generation: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            vacant: Vec::new(),
            len: 0,
            generation: 0,
        }
    }
}

impl<T> Table<T> {
    /// Entries alive.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no entry is alive.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry.
    ///
    /// # Panics
    ///
    /// Above 2^32 entries, which the connection limit rules out.
    pub fn insert(&mut self, value: T) -> Slot<T> {
        // 30 bits: a slot and two bits of operation kind share one completion word.
        self.generation = self.generation.wrapping_add(1) & 0x3FFF_FFFF;
        let generation = self.generation;
        let number = self.vacant.last().copied().unwrap_or_else(|| {
            let number = u32::try_from(self.pages.len()).expect("pages are fewer than entries");
            self.pages.push(Slab::new());
            self.vacant.push(number);
            number
        });
        let page = &mut self.pages[usize::try_from(number).expect("an index into memory")];
        if page.capacity() == 0 {
            page.reserve_exact(PAGE);
        }
        let offset = page.insert((generation, value));
        if page.len() == PAGE {
            self.vacant.pop();
        }
        self.len += 1;
        let index = u32::try_from(offset)
            .ok()
            .and_then(|offset| number.checked_mul(1 << PAGE_BITS)?.checked_add(offset))
            .expect("connection limits keep tables below 2^32 entries");
        Slot {
            index,
            generation,
            of: PhantomData,
        }
    }

    /// Returns the entry, unless it was removed.
    pub fn get(&self, slot: Slot<T>) -> Option<&T> {
        let (page, offset) = split(slot);
        self.pages
            .get(page)?
            .get(offset)
            .filter(|(generation, _)| *generation == slot.generation)
            .map(|(_, value)| value)
    }

    /// The entry, unless it was removed.
    pub fn get_mut(&mut self, slot: Slot<T>) -> Option<&mut T> {
        let (page, offset) = split(slot);
        self.pages
            .get_mut(page)?
            .get_mut(offset)
            .filter(|(generation, _)| *generation == slot.generation)
            .map(|(_, value)| value)
    }

    /// Removes the entry, unless it was removed before. A page's memory is freed with its last
    /// entry.
    pub fn remove(&mut self, slot: Slot<T>) -> Option<T> {
        self.get(slot)?;
        let (number, offset) = split(slot);
        let page = &mut self.pages[number];
        if page.len() == PAGE {
            self.vacant.push(slot.index >> PAGE_BITS);
        }
        let (_, value) = page.remove(offset);
        if page.is_empty() {
            *page = Slab::new();
        }
        self.len -= 1;
        Some(value)
    }

    /// Number of positions, taken or free: all indexes are below it.
    pub fn positions(&self) -> usize {
        self.pages.len() << PAGE_BITS
    }

    /// The living slot at a position, if it is taken.
    pub fn at(&self, position: usize) -> Option<Slot<T>> {
        let index = u32::try_from(position).ok()?;
        let page = self.pages.get(position >> PAGE_BITS)?;
        let (generation, _) = page.get(position % PAGE)?;
        Some(Slot {
            index,
            generation: *generation,
            of: PhantomData,
        })
    }

    /// Every living slot, in the order of their indexes.
    pub fn slots(&self) -> impl Iterator<Item = Slot<T>> {
        self.slots_from(0)
    }

    /// Every living slot of the page of `index` and of later pages.
    fn pages_from(&self, index: u32) -> impl Iterator<Item = Slot<T>> {
        let first = index >> PAGE_BITS;
        let skipped = usize::try_from(first).expect("an index into memory");
        let pages = self.pages.iter().zip(0_u32..).skip(skipped);
        pages.flat_map(|(page, number)| {
            page.iter().map(move |(offset, (generation, _))| Slot {
                index: number << PAGE_BITS | u32::try_from(offset).expect("below PAGE"),
                generation: *generation,
                of: PhantomData,
            })
        })
    }

    /// Every living slot whose index is at least `index`, in the order of their indexes.
    pub fn slots_from(&self, index: u32) -> impl Iterator<Item = Slot<T>> {
        self.pages_from(index)
            .skip_while(move |slot| slot.index < index)
    }
}

/// Page and position within it.
fn split<T>(slot: Slot<T>) -> (usize, usize) {
    let index = usize::try_from(slot.index).expect("an index into memory");
    (index >> PAGE_BITS, index % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a slot of a removed entry finds nothing, also after its index is used again.
    #[test]
    fn stale_slots_find_nothing() {
        let mut table = Table::default();
        let old = table.insert('a');
        assert_eq!(table.remove(old), Some('a'));
        let new = table.insert('b');
        assert_eq!(new.index(), old.index());
        assert_eq!(table.get(old), None);
        assert_eq!(table.get(new), Some(&'b'));
        assert_eq!(Slot::<char>::from_bits(new.to_bits()), new);
    }

    /// Goal: pages fill, empty and fill again, and every entry is found under its slot throughout.
    /// Method: random insertions and removals against a map.
    #[test]
    fn pages_fill_and_empty() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut table, mut model) = (Table::default(), std::collections::HashMap::new());
        for round in 0..60_000_u32 {
            let growing = round / 10_000 % 2 == 0;
            if rng.u32(..10) < if growing { 8 } else { 2 } {
                model.insert(table.insert(round), round);
            } else if let Some(slot) = model.keys().next().copied() {
                assert_eq!(table.remove(slot), model.remove(&slot));
                assert_eq!(table.remove(slot), None);
            }
            assert_eq!(table.len(), model.len());
        }
        assert!(
            table
                .slots()
                .all(|slot| table.get(slot) == model.get(&slot))
        );
        assert_eq!(table.slots().count(), model.len());
        let at = (0..table.positions() + PAGE).filter_map(|position| table.at(position));
        assert!(at.eq(table.slots()));
        let pages = table.pages.len();
        assert!(pages <= 8, "{pages} pages for at most 7,000 entries");
    }
}
