//! Viewers of the measuring process itself: in each room one that speaks, and some that are looked at
//! frame by frame.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use super::speech::now_nanos;
use crate::host::Host;
use crate::sample::{self, Sample};
use crate::viewer::TEXT;
use crate::wire::Outbox;
use crate::{BenchError, histogram};

/// Sampled viewers of some rooms.
pub(crate) struct Speakers {
    rooms: Vec<Room>,
    epoll: OwnedFd,
    text: String,
}

struct Room {
    // The first one speaks.
    samples: Vec<Sample>,
    out: Outbox,
    sent: u64,
    ages: Histogram<u64>,
}

impl Speakers {
    /// Nobody yet.
    pub(crate) fn new(rooms: usize) -> Result<Self, BenchError> {
        let room = |_| Room {
            samples: Vec::new(),
            out: Outbox::default(),
            sent: 0,
            ages: histogram(),
        };
        Ok(Self {
            rooms: (0..rooms).map(room).collect(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?,
            text: String::new(),
        })
    }

    /// Connects viewer number `index` of all.
    pub(crate) fn join(
        &mut self,
        host: &Host,
        room: usize,
        index: usize,
    ) -> Result<(), BenchError> {
        let sample = Sample::new(host.viewer(room, index)?)?;
        let here = &mut self.rooms[room];
        let data = (room as u64) << 32 | here.samples.len() as u64;
        let data = epoll::EventData::new_u64(data);
        epoll::add(
            &self.epoll,
            &sample.inbox.stream,
            data,
            epoll::EventFlags::IN,
        )
        .map_err(io::Error::from)?;
        here.samples.push(sample);
        Ok(())
    }

    /// Says the next message in a room, which was meant to be said at `meant`, by [`now_nanos`].
    pub(crate) fn say(
        &mut self,
        room: usize,
        meant: u64,
        content_bytes: usize,
    ) -> Result<(), BenchError> {
        let room = &mut self.rooms[room];
        self.text.clear();
        sample::request(&mut self.text, room.sent, meant, content_bytes);
        room.out.push(TEXT, self.text.as_bytes());
        room.sent += 1;
        room.flush()
    }

    /// Hears what came to the sampled viewers, for at most `wait` (below a second) nothing; whether
    /// something did.
    pub(crate) fn listen(&mut self, wait: Duration) -> Result<bool, BenchError> {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        for event in &*ready {
            let data = usize::try_from(event.data.u64()).expect("64 bits");
            self.rooms[data >> 32].hear(data & 0xFFFF_FFFF)?;
        }
        // What a full socket did not take.
        for room in &mut self.rooms {
            room.flush()?;
        }
        Ok(!ready.is_empty())
    }

    /// Whether everything said in a room came to its sampled viewers.
    pub(crate) fn all_came(&self, room: usize) -> bool {
        let room = &self.rooms[room];
        room.samples.iter().all(|sample| sample.next == room.sent)
    }

    /// Sampled viewers of a room.
    pub(crate) fn count(&self, room: usize) -> usize {
        self.rooms[room].samples.len()
    }

    /// Bytes of a room's messages at its speaker.
    pub(crate) fn bytes(&self, room: usize) -> u64 {
        self.rooms[room]
            .samples
            .first()
            .map_or(0, |sample| sample.bytes)
    }

    /// Messages of a room that were refused, lost or repeated, at all its sampled viewers, ever.
    pub(crate) fn wrong(&self, room: usize) -> u64 {
        let room = &self.rooms[room];
        let wrong = room.samples.iter().map(|sample| {
            let missing = room.sent.saturating_sub(sample.next);
            sample.lost + sample.repeated + sample.errors + missing
        });
        wrong.sum()
    }

    /// Ages of a room's messages in microseconds since the last call.
    pub(crate) fn take_ages(&mut self, room: usize) -> Histogram<u64> {
        std::mem::replace(&mut self.rooms[room].ages, histogram())
    }
}

impl Room {
    fn hear(&mut self, index: usize) -> Result<(), BenchError> {
        let sample = &mut self.samples[index];
        sample
            .read(now_nanos, &mut self.ages, 0)
            .map_err(|error| BenchError::Lost(error.to_string()))?;
        if sample.inbox.take_ping() {
            let mut pong = Outbox::default();
            let out = if index == 0 { &mut self.out } else { &mut pong };
            out.pong();
            out.flush(&mut sample.inbox.stream)
                .map_err(|error| BenchError::Lost(error.to_string()))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let Some(speaker) = self.samples.first_mut() else {
            return Ok(());
        };
        self.out
            .flush(&mut speaker.inbox.stream)
            .map_err(|error| BenchError::Lost(error.to_string()))
    }
}
