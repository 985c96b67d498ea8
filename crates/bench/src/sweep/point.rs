//! One point of a sweep: the measurement at one value of what grows, on a fresh server.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::over::Shape;
use crate::harness::error::BenchError;
use crate::harness::plain_sends::{self, PlainSends, Source, Work};
use crate::harness::search::{Row, Search};
use crate::harness::server::ServerUnderTest;
use crate::harness::viewer_stream::ViewerStream;
use crate::harness::websocket;

/// The result at one value.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) value: u64,
    /// The results of the runs, ascending by deliveries per second; none if no rate keeps the
    /// bound.
    pub(super) rows: Vec<Row>,
    /// The kernel's line at the median's messages per send, if it was asked for.
    pub(super) floor: Option<plain_sends::LinePoint>,
}

/// The work of one point.
pub(super) struct PointWork {
    pub(super) shape: Shape,
    pub(super) search: Search,
    /// Whether the kernel's line is measured, too.
    pub(super) with_floor: bool,
}

impl PointWork {
    /// Measures on a server that `start` starts with the given number of rooms. Calls `tell` after
    /// each measurement of a search.
    pub(super) fn measure(
        &self,
        value: u64,
        start: impl FnOnce(usize) -> Result<ServerUnderTest, BenchError>,
        mut tell: impl FnMut(&Row),
    ) -> Result<Point, BenchError> {
        let shape = &self.shape;
        let idle_rooms = shape.idle.div_ceil(IDLE_ROOM_MEMBERS);
        let mut server = start(shape.rooms + idle_rooms)?;
        let mut idle = IdleViewers::connect(&server, shape.rooms, idle_rooms, shape.idle)?;
        server.keep_rooms(shape.rooms);
        let tell = |_: usize, row: &Row| {
            tell(row);
            idle.keep_alive();
        };
        let mut rows = match self.search.run(&server, || (), tell) {
            Err(BenchError::Bound) => Vec::new(),
            rows => rows?,
        };
        rows.sort_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
        // Nothing else may run while the kernel's line is measured.
        drop((idle, server));
        let mut point = Point {
            value,
            rows,
            floor: None,
        };
        if self.with_floor {
            point.floor = point
                .median()
                .and_then(|row| Some((row.frame_bytes, row.messages_per_send?)))
                .map(|(frame_bytes, messages)| self.floor(frame_bytes, messages))
                .transpose()?;
        }
        Ok(point)
    }

    fn floor(&self, frame_bytes: f64, messages: f64) -> Result<plain_sends::LinePoint, BenchError> {
        let work = Work {
            frame_bytes,
            source: Source::Buffer,
            measured: self.search.measured,
        };
        PlainSends::connect(self.shape.receivers)?.measure(&work, messages)
    }
}

impl Point {
    /// Returns the median run by deliveries per second.
    pub(super) fn median(&self) -> Option<&Row> {
        self.rows.get(self.rows.len() / 2)
    }

    /// Returns a figure of the median run, and the lowest and the highest one of all runs.
    pub(super) fn spread(&self, figure: impl Fn(&Row) -> f64) -> Option<[f64; 3]> {
        let figures = || self.rows.iter().map(&figure);
        let lowest = figures().fold(f64::INFINITY, f64::min);
        let highest = figures().fold(f64::NEG_INFINITY, f64::max);
        Some([figure(self.median()?), lowest, highest])
    }

    pub(super) fn json(&self) -> Value {
        let mut row = self.median().map_or_else(|| json!({}), Row::json);
        row["value"] = self.value.into();
        row["runs"] = self.rows.len().into();
        if let Some([_, lowest, highest]) = self.spread(|row| row.deliveries_per_second) {
            row["lowest"] = lowest.round().into();
            row["highest"] = highest.round().into();
        }
        if let Some([_, lowest, highest]) = self.spread(|row| row.ages.p99 as f64) {
            row["p99_us_lowest"] = lowest.into();
            row["p99_us_highest"] = highest.into();
        }
        if let Some(floor) = self.floor {
            row["floor"] = floor.json();
        }
        row
    }
}

/// Viewers of other rooms, who send and receive nothing.
struct IdleViewers {
    streams: Vec<ViewerStream>,
    /// When they last sent pongs.
    ponged: Instant,
}

impl IdleViewers {
    fn connect(
        server: &ServerUnderTest,
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
            idle.streams
                .push(server.connect(room, IDLE_FIRST + member)?);
            idle.keep_alive();
        }
        Ok(idle)
    }

    /// Sends pongs before the server sends pings.
    fn keep_alive(&mut self) {
        if self.ponged.elapsed() < KEEP_ALIVE {
            return;
        }
        self.ponged = Instant::now();
        for stream in &mut self.streams {
            // Others are measured; the server's own figures show connections that it lost.
            let _best_effort: io::Result<()> = stream.write_all(&websocket::pong());
        }
    }
}

/// Members of each room of the idle.
const IDLE_ROOM_MEMBERS: usize = 1000;
/// Number of the first idle viewer: above those of the others, so that source addresses differ.
const IDLE_FIRST: usize = 1_000_000;
/// Between two rounds of pongs: below the server's ping interval.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::ages::Ages;
    use crate::harness::search::Verdict;

    fn row(deliveries_per_second: f64, p99: u64) -> Row {
        Row {
            rate: 1.0,
            deliveries_per_second,
            ages: Ages {
                p99,
                ..Ages::default()
            },
            wrong: 0,
            refused: 0,
            frame_bytes: 386.0,
            record_bytes: None,
            cpu_nanos: None,
            messages_per_send: None,
            verdict: Verdict::Kept,
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
        let p99 = point.spread(|row| row.ages.p99 as f64);
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
}
