//! The quantities over which a sweep can go.

use std::ops::RangeInclusive;

/// What grows from point to point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Over {
    /// Viewers of one room
    Receivers,
    /// Rooms of 100 viewers each
    Rooms,
    /// Bytes of a message's content, in one room of 1,000
    Size,
    /// Idle connections of other rooms, beside one room of 1,000
    Connections,
    /// Messages in one send, by raising the rate of one room of 1,000
    Coalescing,
}

/// The work of one point.
pub(super) struct Shape {
    pub(super) rooms: usize,
    /// Viewers of each room.
    pub(super) receivers: usize,
    pub(super) content_bytes: usize,
    /// Connections of other rooms, which send and receive nothing.
    pub(super) idle: usize,
    /// Messages per second in each room, if they are what grows.
    pub(super) rate: Option<f64>,
}

impl Over {
    /// Returns the usual points, as far as the limits on open files of this process and of the
    /// server, `descriptors`, allow.
    pub(super) fn values(self, descriptors: u64) -> Vec<u64> {
        let values: &[u64] = match self {
            Self::Receivers => &[10, 100, 1000, 10_000],
            Self::Rooms => &[1, 3, 10, 30, 100],
            Self::Size => &[32, 64, 128, 256, 500],
            Self::Connections => &[0, 2000, 5000, 10_000, 15_000],
            Self::Coalescing => &[20, 100, 300, 1000, 3000, 10_000, 20_000],
        };
        let fit = |value: &u64| self.connections(*value) + DESCRIPTORS_KEPT <= descriptors;
        values.iter().copied().filter(fit).collect()
    }

    /// Returns the number of connections of a point.
    pub(super) fn connections(self, value: u64) -> u64 {
        let shape = self.shape(value);
        (shape.rooms * shape.receivers + shape.idle) as u64
    }

    /// Returns the values that may be asked for.
    pub(super) fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::Receivers | Self::Coalescing => 1..=1_000_000,
            Self::Rooms => 1..=10_000,
            Self::Size => 32..=500,
            Self::Connections => 0..=1_000_000,
        }
    }

    /// Names the quantity, for the axis of a picture.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Receivers => "receivers of one room",
            Self::Rooms => "rooms of 100 receivers",
            Self::Size => "bytes of content, one room of 1,000 receivers",
            Self::Connections => "idle connections beside one room of 1,000 receivers",
            Self::Coalescing => "messages a send, one room of 1,000 receivers",
        }
    }

    pub(super) fn shape(self, value: u64) -> Shape {
        let mut shape = Shape {
            rooms: 1,
            receivers: 1000,
            content_bytes: 200,
            idle: 0,
            rate: None,
        };
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        match self {
            Self::Receivers => shape.receivers = count,
            Self::Rooms => {
                shape.rooms = count;
                shape.receivers = 100;
            }
            Self::Size => shape.content_bytes = count,
            Self::Connections => shape.idle = count,
            Self::Coalescing => shape.rate = Some(value as f64),
        }
        shape
    }
}

/// Descriptors that the server and this process need for everything else.
const DESCRIPTORS_KEPT: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no point asks for more connections than descriptors, and every one can be asked for.
    #[test]
    fn points_fit_the_descriptors() {
        for over in <Over as clap::ValueEnum>::value_variants() {
            let all = over.values(u64::MAX);
            assert!(all.iter().all(|value| over.range().contains(value)));
            assert_eq!(over.values(20_000), all, "{over:?}");
            let few = over.values(1024 + DESCRIPTORS_KEPT);
            assert!(!few.is_empty(), "{over:?}");
            assert!(few.iter().all(|value| over.connections(*value) <= 1024));
        }
    }
}
