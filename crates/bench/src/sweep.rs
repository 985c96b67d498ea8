//! `uproar bench sweep`: how cost grows with one quantity, each point on a fresh server.

mod picture;

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use picture::picture;

use super::BenchError;
use super::fanout::{self, Row};
use super::floor::{self, Floor};
use super::host::Host;
use super::viewer::{self, PONG};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Over {
    /// Viewers of one room
    Receivers,
    /// Rooms of 100 viewers each
    Rooms,
    /// Bytes of a message's content, in one room of 1,000
    Size,
    /// Connections of other rooms that say nothing, beside one room of 1,000
    Connections,
    /// Messages that one send carries, by raising the rate of one room of 1,000
    Coalescing,
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What grows.
    pub over: Over,
    /// Messages a second in each room; `None`: find the highest. Over coalescing it is what grows.
    pub rate: Option<f64>,
    /// Bound of the 99th percentile when finding it.
    pub p99_max: Duration,
    /// Length of one measurement.
    pub measured: Duration,
    /// Measurements, or searches, of each point.
    pub runs: usize,
}

/// One value of what grows.
#[derive(Debug, Clone)]
pub struct Point {
    /// Which; over coalescing messages a second.
    pub value: u64,
    /// In order of deliveries a second; none if no rate keeps the bound.
    pub rows: Vec<Row>,
    /// The kernel's line at the median's messages a send, over coalescing.
    pub floor: Option<floor::Point>,
}

/// Work of one point.
struct Shape {
    rooms: usize,
    receivers: usize,
    content_bytes: usize,
    idle: usize,
    rate: Option<f64>,
}

impl Over {
    /// Points, as far as `descriptors` of this process, and of the server's, allow.
    pub fn values(self, descriptors: u64) -> Vec<u64> {
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

    /// How many connections a point has.
    pub fn connections(self, value: u64) -> u64 {
        let shape = self.shape(value);
        (shape.rooms * shape.receivers + shape.idle) as u64
    }

    /// What may be asked for.
    pub fn range(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Self::Receivers | Self::Coalescing => 1..=1_000_000,
            Self::Rooms => 1..=10_000,
            Self::Size => 32..=500,
            Self::Connections => 0..=1_000_000,
        }
    }

    /// What stands under the picture.
    pub fn axis(self) -> &'static str {
        match self {
            Self::Receivers => "receivers of one room",
            Self::Rooms => "rooms of 100 receivers",
            Self::Size => "bytes of content, one room of 1,000 receivers",
            Self::Connections => "idle connections beside one room of 1,000 receivers",
            Self::Coalescing => "messages a send, one room of 1,000 receivers",
        }
    }

    fn shape(self, value: u64) -> Shape {
        let usual = Shape {
            rooms: 1,
            receivers: 1000,
            content_bytes: 200,
            idle: 0,
            rate: None,
        };
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        match self {
            Self::Receivers => Shape {
                receivers: count,
                ..usual
            },
            Self::Rooms => Shape {
                rooms: count,
                receivers: 100,
                ..usual
            },
            Self::Size => Shape {
                content_bytes: count,
                ..usual
            },
            Self::Connections => Shape {
                idle: count,
                ..usual
            },
            Self::Coalescing => Shape {
                rate: Some(value as f64),
                ..usual
            },
        }
    }
}

impl Point {
    /// The median by deliveries a second.
    pub fn median(&self) -> Option<&Row> {
        self.rows.get(self.rows.len() / 2)
    }

    /// Median, lowest and highest of one figure of the runs.
    pub fn spread(&self, figure: impl Fn(&Row) -> f64) -> Option<[f64; 3]> {
        let figures = || self.rows.iter().map(&figure);
        let lowest = figures().fold(f64::INFINITY, f64::min);
        let highest = figures().fold(f64::NEG_INFINITY, f64::max);
        Some([figure(self.median()?), lowest, highest])
    }

    /// For scripts; the figures of the median run, if there is one.
    pub fn json(&self) -> Value {
        let mut row = self.median().map_or_else(|| json!({}), Row::json);
        row["value"] = self.value.into();
        row["runs"] = self.rows.len().into();
        if let Some([_, lowest, highest]) = self.spread(|row| row.deliveries_per_second) {
            row["lowest"] = lowest.round().into();
            row["highest"] = highest.round().into();
        }
        if let Some([_, lowest, highest]) = self.spread(|row| row.ages.0[1] as f64) {
            row["p99_us_lowest"] = lowest.into();
            row["p99_us_highest"] = highest.into();
        }
        if let Some(floor) = self.floor {
            row["floor"] = floor.json();
        }
        row
    }
}

/// Measures one point on a server that `start` starts with so many rooms; `tell` hears each measurement.
/// `near` is where a neighbour's search ended, in deliveries a second.
pub fn point(
    plan: &Plan,
    value: u64,
    near: Option<f64>,
    start: impl FnOnce(usize) -> Result<Host, BenchError>,
    mut tell: impl FnMut(&Row),
) -> Result<Point, BenchError> {
    let shape = plan.over.shape(value);
    let idle_rooms = shape.idle.div_ceil(IDLE_ROOM_MEMBERS);
    let mut host = start(shape.rooms + idle_rooms)?;
    let mut idle = Idle::connect(&host, shape.rooms, idle_rooms, shape.idle)?;
    host.rooms.truncate(shape.rooms);
    let work = fanout::Plan {
        receivers: shape.receivers,
        content_bytes: shape.content_bytes,
        rate: shape.rate.or(plan.rate),
        p99_max: plan.p99_max,
        measured: plan.measured,
        runs: plan.runs,
        samples: SAMPLES,
        near,
    };
    let tell = |_: usize, row: &Row| {
        tell(row);
        idle.keep_alive();
    };
    let mut rows = match fanout::run(&host, &work, || (), tell) {
        Err(BenchError::Bound) => Vec::new(),
        rows => rows?,
    };
    rows.sort_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
    let mut point = Point {
        value,
        rows,
        floor: None,
    };
    // The kernel's line is measured when the server is gone.
    drop((idle, host));
    let median = point.median().filter(|_| plan.over == Over::Coalescing);
    if let Some((row, messages)) = median.and_then(|row| Some((row, row.messages_per_send?))) {
        let mut floor = Floor::connect(floor::Plan {
            receivers: shape.receivers,
            frame_bytes: row.frame_bytes,
            measured: plan.measured,
            memory_file: false,
        })?;
        point.floor = Some(floor.measure(messages)?);
    }
    Ok(point)
}

/// Viewers of other rooms, who say nothing.
struct Idle {
    streams: Vec<TcpStream>,
    ponged: Instant,
}

impl Idle {
    fn connect(
        host: &Host,
        first_room: usize,
        rooms: usize,
        count: usize,
    ) -> Result<Self, BenchError> {
        let mut idle = Self {
            streams: Vec::with_capacity(count),
            ponged: Instant::now(),
        };
        for member in 0..count {
            let room = first_room + member % rooms;
            idle.streams.push(host.viewer(room, IDLE_FIRST + member)?);
            idle.keep_alive();
        }
        Ok(idle)
    }

    /// Answers pings before the server asks.
    fn keep_alive(&mut self) {
        if self.ponged.elapsed() < KEEP_ALIVE {
            return;
        }
        self.ponged = Instant::now();
        for stream in &mut self.streams {
            let mut pong = Vec::new();
            viewer::frame(&mut pong, PONG, b"");
            // The measurement is of others; the server's own figures show connections that it lost.
            let _best_effort: io::Result<()> = stream.write_all(&pong);
        }
    }
}

/// Receivers of each room that are looked at message by message.
const SAMPLES: usize = 10;
/// Members of each room of the idle.
const IDLE_ROOM_MEMBERS: usize = 1000;
/// Number of the first idle viewer: above the others', with source addresses of its own.
const IDLE_FIRST: usize = 1_000_000;
/// Below the server's ping interval.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Descriptors that the server and this process need for everything else.
const DESCRIPTORS_KEPT: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ages;

    fn row(deliveries_per_second: f64, p99: u64) -> Row {
        Row {
            rate: 1.0,
            deliveries_per_second,
            ages: Ages([1, p99, p99, p99]),
            wrong: 0,
            refused: 0,
            frame_bytes: 386.0,
            cpu_nanos: None,
            messages_per_send: None,
            kept: true,
            ended: false,
        }
    }

    /// Goal: median and spread are of the same figure, whatever the order of the others.
    #[test]
    fn a_point_has_a_median_and_a_spread() {
        let point = Point {
            value: 7,
            rows: vec![row(1.0, 30), row(2.0, 10), row(3.0, 20)],
            floor: None,
        };
        let deliveries = point.spread(|row| row.deliveries_per_second);
        assert_eq!(deliveries, Some([2.0, 1.0, 3.0]));
        let p99 = point.spread(|row| row.ages.0[1] as f64);
        assert_eq!(p99, Some([10.0, 10.0, 30.0]));
        let json = point.json();
        assert_eq!((&json["value"], &json["highest"]), (&7.into(), &3.0.into()));
        let none = Point {
            rows: Vec::new(),
            ..point
        };
        assert_eq!(none.spread(|row| row.rate), None);
        assert_eq!(none.json(), json!({"value": 7, "runs": 0}));
    }

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
