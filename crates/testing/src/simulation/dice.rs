//! Decisions of a world, from a seed or from the bytes of a fuzzer.

/// The source of every decision in a world.
pub(crate) enum Dice {
    /// Random decisions, the same for the same seed.
    Seed(fastrand::Rng),
    /// Decisions of one to four bytes each; zero once the bytes are spent.
    Bytes(Vec<u8>, usize),
}

impl Dice {
    /// Makes a source from a seed.
    pub(crate) fn seed(seed: u64) -> Self {
        Self::Seed(fastrand::Rng::with_seed(seed))
    }

    /// Makes a source from bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec(), 0)
    }

    /// Whether the bytes are spent.
    pub(crate) fn is_spent(&self) -> bool {
        match self {
            Self::Seed(_) => false,
            Self::Bytes(bytes, at) => *at >= bytes.len(),
        }
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound <= 1 {
            return 0;
        }
        match self {
            Self::Seed(rng) => rng.usize(..bound),
            Self::Bytes(..) => {
                let width = match bound {
                    0..=0x100 => 1,
                    0x101..=0x1_0000 => 2,
                    _ => 4,
                };
                let number = |bytes: Vec<u8>| {
                    let shifted = |sum: usize, byte: u8| sum << 8 | usize::from(byte);
                    bytes.into_iter().fold(0, shifted)
                };
                number(self.take(width)) % bound
            }
        }
    }

    /// Returns true once in `bound` times; never when the bytes are spent.
    pub(crate) fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == bound - 1
    }

    /// Takes `count` bytes, fewer at the end.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        match self {
            Self::Seed(rng) => (0..count).map(|_| rng.u8(..)).collect(),
            Self::Bytes(bytes, at) => {
                let end = bytes.len().min(*at + count);
                let taken = bytes[*at..end].to_vec();
                *at = end;
                taken
            }
        }
    }

    /// Returns one of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }

    /// Shuffles; a fuzzer's bytes allow only a rotation, to save them.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        match self {
            Self::Seed(rng) => rng.shuffle(items),
            Self::Bytes(..) if items.is_empty() => {}
            Self::Bytes(..) => items.rotate_left(self.below(items.len())),
        }
    }
}
