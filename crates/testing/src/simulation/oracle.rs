//! Checks a world after everything has arrived.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::AddAssign;
use std::rc::Rc;

use serde_json::Value;
use uproar::shard::command::{Refused, Said};
use uproar_proto::base::id::RoomId;

use super::net::{Peer, frame_at};
use super::plan::{Archive, WILD};
use super::review::Outcome;
use super::world::{Call, Client, DOOMED, MAIN, World};
use crate::parts::GREETING;

/// Counts of the events in a world, so that an idle world does not pass for a good one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Messages that all members received.
    pub messages: usize,
    /// Clients whose connection opened.
    pub clients: usize,
    /// Compressed messages that clients received.
    pub compressed: usize,
    /// Messages that the handler denied.
    pub denied: usize,
    /// Messages that it allowed.
    pub allowed: usize,
    /// Verdicts that came too late, twice or for nothing.
    pub ignored_verdicts: usize,
    /// Clients that a moderator disconnected.
    pub kicked: usize,
    /// Clients whose room was deleted.
    pub deleted: usize,
    /// Connections that the server cut.
    pub cut: usize,
    /// Hand-overs to another process.
    pub handed_over: usize,
    /// Hand-overs that were given up.
    pub rolled_back: usize,
    /// Viewers whom a drain ended by FIN, with everything that was said.
    pub drained: usize,
    /// Messages that were taken behind our FIN.
    pub late: usize,
    /// Drains that were cancelled.
    pub cancelled: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.clients += other.clients;
        self.compressed += other.compressed;
        self.denied += other.denied;
        self.allowed += other.allowed;
        self.ignored_verdicts += other.ignored_verdicts;
        self.kicked += other.kicked;
        self.deleted += other.deleted;
        self.cut += other.cut;
        self.handed_over += other.handed_over;
        self.rolled_back += other.rolled_back;
        self.drained += other.drained;
        self.late += other.late;
        self.cancelled += other.cancelled;
    }
}

/// A server's stream, read.
pub(super) struct Stream {
    texts: Vec<Rc<Value>>,
    /// For each text where it ends.
    ends: Vec<usize>,
    /// Where the last whole frame ends.
    end: usize,
    closed: bool,
    compressed: usize,
}

impl Stream {
    /// Returns the newest place in the room's order within the first `len` bytes.
    pub(super) fn newest(&self, len: usize, room: &Room) -> Option<usize> {
        let count = self.ends.partition_point(|end| *end <= len);
        let placed = |text: &Rc<Value>| room.place.get(text["Id"].as_str()?).copied();
        self.texts[..count].iter().rev().find_map(placed)
    }

    /// Asserts that it was ended by a drain: behind a whole frame, without a Close frame and without an error
    /// that answers none of `requested`.
    pub(super) fn check_ended(&self, fin: usize, requested: &HashSet<String>, is_wild: bool) {
        assert!(
            !self.closed,
            "a Close frame ends a client of IVS Chat for good"
        );
        assert_eq!(self.end, fin, "FIN follows a whole frame");
        let errors = self.texts.iter().filter(|text| text["Type"] == "ERROR");
        let mut ids = errors.map(|text| text["RequestId"].as_str().expect("an id"));
        assert!(
            is_wild || ids.all(|id| requested.contains(id)),
            "an error of its own accord"
        );
    }

    /// Returns the frames that all members get: messages and events.
    fn room(&self) -> impl Iterator<Item = &Rc<Value>> {
        self.texts.iter().filter(|text| text["Type"] != "ERROR")
    }
}

/// Reads streams; the same frame goes to many, and is parsed once.
#[derive(Default)]
struct Reader(HashMap<Vec<u8>, Rc<Value>>);

impl Reader {
    /// Reads a stream; panics on any bytes a server may not send. `None`: the client was not greeted.
    fn read(&mut self, peer: &Peer) -> Option<Stream> {
        let bytes = &peer.from_server;
        let mut at = GREETING.len();
        if !bytes.starts_with(GREETING) {
            return None;
        }
        let mut stream = Stream {
            texts: Vec::new(),
            ends: Vec::new(),
            end: 0,
            closed: false,
            compressed: 0,
        };
        while let Some((first, start, end)) = frame_at(bytes, at) {
            let payload = &bytes[start..end];
            match first {
                0x81 => stream.texts.push(self.text(payload, false)),
                0xC1 => {
                    stream.compressed += 1;
                    stream.texts.push(self.text(payload, true));
                }
                0x88 => stream.closed = true,
                0x89 | 0x8A => {}
                other => panic!("server frame {other:#x}"),
            }
            at = end;
            stream.ends.resize(stream.texts.len(), end);
        }
        stream.end = at;
        Some(stream)
    }

    fn text(&mut self, payload: &[u8], compressed: bool) -> Rc<Value> {
        if let Some(text) = self.0.get(payload) {
            return Rc::clone(text);
        }
        let text = if compressed {
            serde_json::from_slice(&inflated(payload))
        } else {
            serde_json::from_slice(payload)
        };
        let text = Rc::new(text.expect("a frame is JSON"));
        self.0.insert(payload.to_vec(), Rc::clone(&text));
        text
    }
}

/// Returns a compressed message's text, by flate2's own reader.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut reader = flate2::write::DeflateDecoder::new(Vec::new());
    reader.write_all(payload).expect("valid");
    reader.write_all(&[0, 0, 0xFF, 0xFF]).expect("valid");
    reader.flush().expect("valid");
    let text = reader.get_ref().clone();
    assert!(text.len() > payload.len(), "compressed to no avail");
    text
}

fn id(text: &Value) -> &str {
    text["Id"].as_str().expect("an id")
}

/// Returns the user that an event disconnects.
fn victim(text: &Value) -> Option<&str> {
    if text["EventName"] == "aws:DISCONNECT_USER" {
        text["Attributes"]["UserId"].as_str()
    } else {
        None
    }
}

/// One room as its observer saw it.
pub(super) struct Room {
    order: Vec<Rc<Value>>,
    place: HashMap<String, usize>,
    kicked: HashSet<String>,
    closed: bool,
}

impl Room {
    /// Returns how many of these requests came through.
    pub(super) fn came_through(&self, requests: &HashSet<String>) -> usize {
        if requests.is_empty() {
            return 0;
        }
        let ids = self
            .order
            .iter()
            .filter_map(|text| text["RequestId"].as_str());
        ids.filter(|id| requests.contains(*id)).count()
    }

    fn of(observed: &Stream) -> Self {
        let order: Vec<_> = observed.room().cloned().collect();
        let places = order.iter().enumerate();
        let place: HashMap<_, _> = places
            .map(|(place, text)| (id(text).to_owned(), place))
            .collect();
        assert_eq!(place.len(), order.len(), "an id came twice");
        let kicked = order.iter().filter_map(|text| victim(text));
        Self {
            kicked: kicked.map(str::to_owned).collect(),
            place,
            order,
            closed: observed.closed,
        }
    }
}

/// Checks that nothing of a client without rights came through.
fn check_silence(client: &Client, room: &Room) {
    let mut later = room
        .order
        .iter()
        .filter(|text| text["Sender"]["UserId"] != WILD);
    let echoed = later.find(|text| {
        let request = text["RequestId"].as_str();
        request.is_some_and(|id| client.requested.contains(id))
    });
    assert!(
        echoed.is_none(),
        "a viewer's request came through: {echoed:?}"
    );
}

impl World {
    /// Checks every invariant at the end.
    pub fn check(&mut self) -> Counts {
        let mut reader = Reader::default();
        let net = Rc::clone(&self.net);
        let net = net.borrow();
        let clients = self.clients.iter();
        let streams: Vec<_> = clients
            .map(|client| reader.read(&net[client.peer]))
            .collect();
        let rooms = [MAIN, DOOMED].map(|room| self.observed(room, &net, &streams));
        self.check_calls(&rooms);
        self.check_log(&rooms[MAIN]);
        self.reviewer.check(&rooms[MAIN].order);
        let mut counts = self.count(&rooms);
        let (mut members, mut opened) = ([0; 2], HashSet::new());
        for (client, stream) in self.clients.iter().zip(&streams) {
            let (peer, room) = (&net[client.peer], &rooms[client.room]);
            let Some(stream) = stream else {
                self.check_unopened(client, peer, room);
                continue;
            };
            assert!(
                opened.insert(client.token),
                "token {} opened twice",
                client.token
            );
            counts.clients += 1;
            counts.compressed += stream.compressed;
            counts.cut += usize::from(peer.cut);
            self.check_client(client, peer, stream, room);
            // A wild client's Close may be part of the frame it had begun: then it is still connected.
            if !stream.closed && !peer.cut && !peer.finished && !peer.reset {
                self.check_member(client);
                members[client.room] += 1;
            }
        }
        self.check_census(members);
        assert_eq!(rooms[DOOMED].closed, self.deleted);
        counts.late = self.check_ended(&net, &streams, &rooms);
        drop(net);
        self.end_by_drain();
        counts
    }

    /// Returns a room as its observer saw it.
    fn observed(&self, room: usize, net: &[Peer], streams: &[Option<Stream>]) -> Room {
        let mut watching = self.clients.iter().zip(streams);
        let observer = watching.find_map(|(client, stream)| {
            let stream = stream.as_ref()?;
            let peer = &net[client.peer];
            let watches = client.observer && client.room == room;
            let lost = peer.cut && !(self.deleted && room == DOOMED);
            assert!(!watches || !lost, "an observer was lost");
            watches.then_some(stream)
        });
        Room::of(observer.expect("the observer is connected"))
    }

    /// Checks that what an archive spooled ends in what the room saw.
    fn check_log(&self, room: &Room) {
        if matches!(self.plan.archive, Archive::Off | Archive::Switched) {
            return;
        }
        let spooled = self.check_spooled();
        let order: Vec<&str> = room.order.iter().map(|text| id(text)).collect();
        let ends = spooled.len().checked_sub(order.len());
        let end = ends.and_then(|start| spooled.get(start..));
        assert!(
            end.is_some_and(|end| end == order),
            "the log is not the room's order"
        );
    }

    /// Checks that a rule explains why a client was not greeted.
    fn check_unopened(&self, client: &Client, peer: &Peer, room: &Room) {
        let kicked = room.kicked.contains(&client.user);
        let ruled = kicked || (client.room == DOOMED && self.deleted);
        assert!(
            peer.excused || client.gone || ruled,
            "{} was not greeted, and not told why",
            client.user
        );
    }

    /// Checks that a member is one on both sides.
    fn check_member(&self, client: &Client) {
        assert!(
            !client.gone || client.user == WILD,
            "{}'s Close was not answered",
            client.user
        );
        assert!(
            self.is_receiving(client.peer),
            "{}'s receive was not armed again",
            client.user
        );
    }

    fn is_receiving(&self, peer: usize) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| shard.core.io().receives.values().any(|id| *id == peer))
    }

    fn check_client(&self, client: &Client, peer: &Peer, stream: &Stream, room: &Room) {
        let Client { user, .. } = client;
        assert!(client.deflates || stream.compressed == 0, "not agreed on");
        let alive = !stream.closed && !client.gone && !peer.cut;
        let deleted = client.room == DOOMED && self.deleted;
        let ruled = room.kicked.contains(user) || deleted || peer.fin.is_some();
        assert!(
            alive || client.gone || peer.excused || ruled,
            "{user} was lost, and no rule explains it"
        );
        assert!(!(deleted && alive), "{user} stays in a deleted room");
        let mut seen_before = None;
        let (mut count, mut is_beyond) = (0, false);
        for text in stream.room() {
            let place = room.place.get(id(text)).copied();
            let Some(place) = place else {
                // Members with a pending send when the room was deleted got no more of it, including
                // the observer.
                assert!(deleted, "{} is in no observed order", id(text));
                is_beyond = true;
                continue;
            };
            assert!(
                !is_beyond,
                "{user} got {place} behind what the observer missed"
            );
            let expected = &room.order[place];
            assert!(
                Rc::ptr_eq(expected, text) || expected == text,
                "two encodings differ"
            );
            if let Some(before) = seen_before {
                let follows = place == before + 1 || (peer.slow && place > before);
                assert!(follows, "{user} got {place} behind {before}");
            }
            (seen_before, count) = (Some(place), count + 1);
            assert!(
                !alive || victim(text) != Some(user),
                "{user} was kicked and stays"
            );
        }
        assert!(
            !alive || count == 0 || peer.slow || seen_before == room.order.len().checked_sub(1),
            "{user} lost the newest: {seen_before:?} of {}",
            room.order.len()
        );
        if !client.may_send {
            check_silence(client, room);
        }
        if alive && user != WILD && !peer.slow {
            self.check_answers(client, stream);
        }
    }

    /// Checks that each request has one answer.
    fn check_answers(&self, client: &Client, stream: &Stream) {
        let mut answers: HashMap<&str, u32> = HashMap::new();
        for text in &stream.texts {
            let request = text["RequestId"].as_str().unwrap();
            *answers.entry(request).or_default() += 1;
            if text["ErrorCode"] == 406 {
                self.reviewer.check_denial(text);
            }
        }
        for requested in &client.requested {
            let count = answers.get(requested.as_str()).copied().unwrap_or_default();
            assert_eq!(count, 1, "answers to {requested}");
        }
    }

    /// Checks that every frame sent in the logged room is in the spool; returns the spool's order.
    pub(super) fn check_spooled(&self) -> Vec<String> {
        let mut spool = Peer {
            from_server: GREETING.to_vec(),
            ..Peer::default()
        };
        spool.from_server.extend_from_slice(&self.spooled);
        let mut reader = Reader::default();
        let spooled = reader.read(&spool).expect("a greeting");
        let spooled: Vec<_> = spooled.room().map(|text| id(text).to_owned()).collect();
        let known: HashSet<&str> = spooled.iter().map(String::as_str).collect();
        let net = self.net.borrow();
        for client in self.clients.iter().filter(|client| client.room == MAIN) {
            let stream = reader.read(&net[client.peer]);
            for text in stream.iter().flat_map(Stream::room) {
                assert!(known.contains(id(text)), "{text} was sent, not spooled");
            }
        }
        spooled
    }

    /// Checks that every shard knows its members, and the home their number on each shard.
    fn check_census(&self, members: [usize; 2]) {
        let census = |room: RoomId| {
            let here = self.shards.iter().map(|shard| shard.core.census(room));
            let (here, counted): (Vec<_>, Vec<_>) = here.unzip();
            let counted = counted.into_iter().flatten().next();
            let counted = counted.map(|counted| counted.iter().map(|count| *count as usize));
            (here, counted.map(Vec::from_iter))
        };
        for (room, members) in self.rooms.into_iter().zip(members) {
            let (here, counted) = census(room);
            assert_eq!(here.iter().sum::<usize>(), members, "members of {room}");
            if self.deleted && room == self.rooms[DOOMED] {
                assert_eq!(counted, None, "{room} was deleted");
            } else {
                assert_eq!(counted, Some(here), "as its home counts them: {room}");
            }
        }
    }

    /// Checks that each call of the API is answered, and its event delivered.
    fn check_calls(&mut self, rooms: &[Room; 2]) {
        for call in &mut self.calls {
            match call {
                Call::Put(answer) => assert_eq!(answer.try_recv(), Ok(Ok(())), "a room was set"),
                Call::Delete(answer) => assert_eq!(answer.try_recv(), Ok(Ok(())), "and deleted"),
                Call::Event(room, answer) => match answer.try_recv() {
                    Ok(Ok(Said { id, .. })) => {
                        let delivered = rooms[*room].place.contains_key(&id.to_string());
                        let lost = *room == DOOMED && self.deleted;
                        assert!(
                            delivered || lost,
                            "{id} was answered, not delivered in room {room}"
                        );
                    }
                    Ok(Err(refused)) => {
                        let gone = *room == DOOMED && self.deleted;
                        assert!(gone || refused != Refused::NoSuchRoom, "{refused}");
                    }
                    Err(error) => panic!("a call without an answer: {error}"),
                },
            }
        }
    }

    fn count(&self, rooms: &[Room; 2]) -> Counts {
        let mut counts = Counts {
            messages: rooms.iter().map(|room| room.order.len()).sum(),
            kicked: rooms.iter().map(|room| room.kicked.len()).sum(),
            deleted: usize::from(self.deleted),
            ignored_verdicts: self.reviewer.ignored_verdicts,
            handed_over: self.handed_over,
            drained: self.ended.len(),
            cancelled: self.cancelled,
            rolled_back: self.rolled_back,
            ..Counts::default()
        };
        for outcome in self.reviewer.outcomes.values() {
            match outcome {
                Outcome::Delivered(_) => counts.allowed += 1,
                Outcome::Denied(_) => counts.denied += 1,
            }
        }
        counts
    }
}
