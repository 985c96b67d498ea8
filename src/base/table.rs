//! Slot tables: a slab whose keys carry a generation, so that a stale key finds nothing.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// Index and generation of an entry in a [`Table<T>`]. The type parameter keeps the slots of two
/// tables apart.
pub struct Slot<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Slot<T> {
    /// From [`Slot::to_bits`]. A made-up value finds nothing or a living entry, never harm.
    pub const fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u64")]
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
            of: PhantomData,
        }
    }

    /// Index and generation in one word.
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

/// A slab with generations. Insert, remove and look-up are O(1).
#[derive(Debug)]
pub struct Table<T> {
    slab: slab::Slab<(u32, T)>,
    generation: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slab: slab::Slab::new(),
            generation: 0,
        }
    }
}

impl<T> Table<T> {
    /// Entries alive.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no entry is alive.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
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
        let index = u32::try_from(self.slab.insert((generation, value)))
            .expect("connection limits keep tables below 2^32 entries");
        Slot {
            index,
            generation,
            of: PhantomData,
        }
    }

    /// The entry, unless it was removed.
    pub fn get(&self, slot: Slot<T>) -> Option<&T> {
        self.slab
            .get(slot.index as usize)
            .filter(|(generation, _)| *generation == slot.generation)
            .map(|(_, value)| value)
    }

    /// The entry, unless it was removed.
    pub fn get_mut(&mut self, slot: Slot<T>) -> Option<&mut T> {
        self.slab
            .get_mut(slot.index as usize)
            .filter(|(generation, _)| *generation == slot.generation)
            .map(|(_, value)| value)
    }

    /// Takes the entry out, unless it was removed before.
    pub fn remove(&mut self, slot: Slot<T>) -> Option<T> {
        self.get(slot)?;
        Some(self.slab.remove(slot.index as usize).1)
    }

    /// The living entry at `index`, whatever its generation.
    pub fn slot_at(&self, index: u32) -> Option<Slot<T>> {
        self.slab.get(index as usize).map(|(generation, _)| Slot {
            index,
            generation: *generation,
            of: PhantomData,
        })
    }

    /// Every living entry with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (Slot<T>, &T)> {
        self.slab.iter().map(|(index, (generation, value))| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "insert admits only u32 indices"
            )]
            let index = index as u32;
            (
                Slot {
                    index,
                    generation: *generation,
                    of: PhantomData,
                },
                value,
            )
        })
    }
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
}
