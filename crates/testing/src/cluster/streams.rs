//! What viewers of the shards that ship got, judged by the true log.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::HashSlot;

use super::flight::Viewer;
use super::oracle::{batch_of, id_of};
use super::world::World;
use crate::parts::GREETING;
use crate::simulation::net::frame_at;

/// A room's order by the true log.
#[derive(Default)]
struct Places {
    /// The place of each id.
    of: HashMap<String, usize>,
    /// Places whose home could not know what was said before: the log had nothing any more.
    anew: Vec<usize>,
}

impl Viewer {
    /// Reads its stream; panics on bytes that a server may not send.
    fn texts(&self) -> Vec<Value> {
        let bytes = &self.net.borrow()[self.peer].from_server;
        let (mut texts, mut at) = (Vec::new(), GREETING.len());
        while let Some((first, start, end)) = frame_at(bytes, at) {
            match first {
                0x81 => texts.push(serde_json::from_slice(&bytes[start..end]).expect("JSON")),
                0x88..=0x8A => {}
                other => panic!("server frame {other:#x}"),
            }
            at = end;
        }
        texts
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a text")
}

impl World {
    /// Checks the stream of every viewer there ever was.
    pub(super) fn check_streams(&mut self) {
        let orders: HashMap<RoomId, Places> = self
            .rooms
            .iter()
            .map(|room| (*room, self.order(*room)))
            .collect();
        let mut opened: HashMap<u64, u32> = HashMap::new();
        let mut seen = 0;
        for viewer in self.viewers.iter().filter(|viewer| viewer.is_greeted()) {
            *opened.entry(viewer.token).or_default() += 1;
            seen += self.check_stream(viewer, &orders[&viewer.room]);
        }
        let twice = opened.iter().find(|(_, count)| **count > 1);
        assert_eq!(twice, None, "a token opened two connections");
        self.oracle.counts.streams += opened.len() as u64;
        self.oracle.counts.seen += seen;
    }

    fn order(&self, room: RoomId) -> Places {
        let slot = HashSlot::of(room).index();
        let mut places = Places::default();
        for record in self.broker.history(slot) {
            let Some(batch) = batch_of(record) else {
                if record.condition == 0 {
                    places.anew.push(places.of.len());
                }
                continue;
            };
            let entries = batch.entries.iter();
            for entry in entries.filter(|entry| entry.room == room && !entry.frame.is_empty()) {
                places.of.insert(id_of(entry).to_string(), places.of.len());
            }
        }
        places
    }

    /// Checks one stream; returns how many frames of the room it has.
    fn check_stream(&self, viewer: &Viewer, order: &Places) -> u64 {
        let slot = HashSlot::of(viewer.room).index();
        let has_holes = self.oracle.holes.contains(&(viewer.life, slot));
        let alive = self.nodes[viewer.node].is(viewer.life) && viewer.is_open();
        let (mut before, mut time, mut count) = (None, String::new(), 0);
        let mut answers: HashMap<String, u32> = HashMap::new();
        let mut kicked = false;
        for value in viewer.texts() {
            *answers
                .entry(text(&value, "RequestId").to_owned())
                .or_default() += 1;
            if value["Type"] == "ERROR" {
                continue;
            }
            let id = text(&value, "Id");
            let place = *order
                .of
                .get(id)
                .unwrap_or_else(|| panic!("{id} is not in the log"));
            let follows =
                before.is_none_or(|before| place == before + 1 || (has_holes && place > before));
            assert!(follows, "a viewer got {place} behind {before:?}");
            let is_between =
                |anew: &usize| before.is_some_and(|before| before < *anew) && *anew <= place;
            if order.anew.iter().any(is_between) {
                time.clear();
            }
            before = Some(place);
            // Fractions of any length: without the zone they compare as texts.
            let sent = text(&value, "SendTime").trim_end_matches('Z').to_owned();
            assert!(
                sent >= time,
                "a viewer sees time go back: {sent} behind {time}"
            );
            time = sent;
            count += 1;
            kicked |= value["EventName"] == "aws:DISCONNECT_USER"
                && value["Attributes"]["UserId"] == viewer.user;
        }
        assert!(
            !(alive && kicked),
            "{} was disconnected, and stays",
            viewer.user
        );
        if alive {
            let newest = order.of.len().checked_sub(1);
            let is_current = before.is_none() || before == newest;
            assert!(
                is_current,
                "a viewer lacks the newest: {before:?} of {newest:?}"
            );
            check_answers(&viewer.requested, &answers);
        }
        count
    }
}

/// Checks that each request of a viewer who is still there has one answer.
fn check_answers(requested: &HashSet<String>, answers: &HashMap<String, u32>) {
    for request in requested {
        let count = answers.get(request).copied().unwrap_or_default();
        // One whose end was not known within 15 s is answered, and may still appear.
        assert!((1..=2).contains(&count), "{count} answers to {request}");
    }
}
