use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::base::clock::UnixTime;
use crate::base::id::FrameIds;
use crate::base::limits::{HISTORY_JOIN_BYTES_MAX, RESUME_OVERLAP_FRAMES};
use crate::chat::encode;
use crate::room::stands::Stand;

const PURGED: &str = encode::PURGED;

fn message(id: FrameId, user: &str, content: &str) -> BytesMut {
    message_at(id, user, content, UnixTime::from_secs(1))
}

fn message_at(id: FrameId, user: &str, content: &str, sent: UnixTime) -> BytesMut {
    let mut out = BytesMut::new();
    let message = encode::Message {
        id,
        request_id: "",
        attributes_json: "null",
        content,
        sent,
        sender_json: &encode::sender_json(user, []),
    };
    encode::message(&mut out, &message);
    out
}

fn event(id: FrameId, name: &str, attributes_json: &str) -> BytesMut {
    let mut out = BytesMut::new();
    let event = encode::Event {
        id,
        request_id: "",
        name,
        attributes_json,
        sent: UnixTime::from_secs(1),
    };
    encode::event(&mut out, &event);
    out
}

fn recall(history: usize, age: u64, resume: u64) -> Recall {
    Recall {
        history,
        history_age: Duration::from_secs(age),
        resume: Duration::from_secs(resume),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(u8),
    Other,
    Delete(usize),
    Purge(u8),
    Clear,
    Wait(u64),
    Flush,
    New,
    At(u64),
    After(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_u8).prop_map(Step::Say),
        2 => Just(Step::Other),
        2 => (0..20_usize).prop_map(Step::Delete),
        1 => (0..3_u8).prop_map(Step::Purge),
        1 => Just(Step::Clear),
        2 => (1..40_u64).prop_map(Step::Wait),
        4 => Just(Step::Flush),
        2 => Just(Step::New),
        3 => (0..200_u64).prop_map(Step::At),
        2 => (0..40_usize).prop_map(Step::After),
    ]
}

/// Everything that was ever said in a room.
#[derive(Debug, Default)]
struct Model {
    // Number, when, who, id, frame; messages that are not taken back.
    said: Vec<(u64, Tick, u8, FrameId, BytesMut)>,
    ids: Vec<FrameId>,
    frames: u64,
    waiting: BytesMut,
    count: u32,
    gone: Vec<FrameId>,
}

impl Model {
    fn frame(&mut self, frame: &BytesMut) {
        self.waiting.extend_from_slice(frame);
        self.count += 1;
    }

    fn take_back(&mut self, is_gone: impl Fn(&(u64, Tick, u8, FrameId, BytesMut)) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.said)
            .into_iter()
            .partition(is_gone);
        self.said = kept;
        let gone: Vec<(u64, Tick, u8, FrameId, BytesMut)> = gone;
        self.gone.extend(gone.iter().map(|said| said.3));
    }
}

fn ids_in(frames: &[u8]) -> Vec<FrameId> {
    ws::payloads(frames).filter_map(message_id).collect()
}

proptest! {
    /// Goal: whatever is said, taken back and waited for, who joins gets exactly the newest messages that are neither taken
    /// back nor too old, who comes back gets everything since and 64 frames before, and is told if there is a gap. Oracle: a
    /// list of all that was said.
    #[test]
    fn viewers_get_exactly_what_they_should(steps in proptest::collection::vec(step(), 0..120), history in 0..6_usize, resumes: bool) {
        let recall = recall(history, 100, if resumes { 60 } else { 0 });
        prop_assume!(history > 0 || resumes);
        let mut memory = Memory::new(recall, 0);
        let (mut model, mut ids, mut now) = (Model::default(), FrameIds::seeded(5), Tick::from_nanos(1));
        for step in steps {
            match step {
                Step::Say(user) => {
                    let id = ids.next_id();
                    let frame = message(id, &format!("u{user}"), "hello");
                    let number = model.frames + u64::from(model.count);
                    model.frame(&frame);
                    model.said.push((number, now, user, id, frame));
                    model.ids.push(id);
                }
                Step::Other => model.frame(&event(ids.next_id(), "app:other", "{}")),
                Step::Delete(which) => {
                    let id = model.ids.get(which).copied().unwrap_or_else(|| ids.next_id());
                    let attributes = encode::deleted_attributes(id.as_str(), "");
                    model.frame(&event(ids.next_id(), encode::DELETED, &attributes));
                    model.take_back(|said| said.3 == id);
                    if !model.gone.contains(&id) {
                        model.gone.push(id);
                    }
                }
                Step::Purge(user) => {
                    let attributes = encode::purged_attributes(&format!("u{user}"), "");
                    model.frame(&event(ids.next_id(), PURGED, &attributes));
                    model.take_back(|said| said.2 == user);
                }
                Step::Clear => {
                    model.frame(&event(ids.next_id(), encode::CLEARED, "{}"));
                    model.take_back(|_| true);
                }
                Step::Wait(seconds) if model.count == 0 => {
                    now = now.after(Duration::from_secs(seconds));
                    memory.expire(now);
                }
                Step::Wait(_) => {}
                Step::Flush | Step::New | Step::At(_) | Step::After(_) => {
                    let gone = memory.note(&model.waiting, (model.frames, model.count), now, PURGED);
                    model.waiting.clear();
                    model.frames += u64::from(std::mem::take(&mut model.count));
                    let most = if resumes { 200 } else { history };
                    let surplus = model.said.len().saturating_sub(most);
                    model.said.drain(..surplus);
                    prop_assert!(gone.iter().all(|id| model.gone.contains(id)), "nothing else is taken back");
                }
            }
            let young = |age: u64| {
                let is_young = move |said: &&(u64, Tick, u8, FrameId, BytesMut)| said.1.after(Duration::from_secs(age)) >= now;
                model.said.iter().filter(is_young)
            };
            let newest: Vec<FrameId> = {
                let mut newest: Vec<FrameId> = young(100).rev().take(history).map(|said| said.3).collect();
                newest.reverse();
                newest
            };
            match step {
                Step::New => {
                    let replay = memory.replay(Start::New, now);
                    prop_assert_eq!(ids_in(&replay.frames), newest);
                    prop_assert!(replay.is_complete && !replay.is_resumed);
                }
                Step::At(back) if resumes => {
                    let frame = model.frames.saturating_sub(back);
                    let replay = memory.replay(Start::At(Stand { frame, is_sure: true }), now);
                    let kept = if history > 0 { 100 } else { 60 };
                    let begin = frame.saturating_sub(RESUME_OVERLAP_FRAMES);
                    let wanted: Vec<FrameId> = young(kept).filter(|said| said.0 >= begin || newest.contains(&said.3)).map(|said| said.3).collect();
                    let found = ids_in(&replay.frames);
                    // Events that took something back are in between: newer messages come with the older ones they follow.
                    prop_assert!(wanted.iter().all(|id| found.contains(id)), "{wanted:?} in {found:?}");
                    prop_assert!(found.len() <= wanted.len().max(history) , "{found:?} for {wanted:?}");
                    let misses = model.said.iter().any(|said| said.0 >= frame && !found.contains(&said.3));
                    prop_assert!(!misses || !replay.is_complete);
                    prop_assert!(replay.is_resumed);
                }
                Step::After(which) => {
                    let Some(id) = model.ids.get(which).copied() else { continue };
                    let replay = memory.replay(Start::After(id), now);
                    if memory.find(id).is_some() {
                        let wanted: Vec<FrameId> = model.said.iter().skip_while(|said| said.3 != id).skip(1).map(|said| said.3).collect();
                        prop_assert_eq!(ids_in(&replay.frames), wanted);
                        prop_assert!(replay.is_complete && replay.is_resumed);
                    } else {
                        prop_assert!(!replay.is_complete && !replay.is_resumed);
                        prop_assert_eq!(ids_in(&replay.frames), newest);
                    }
                }
                _ => {}
            }
            let flushed = if model.count == 0 { &model.gone[..] } else { &[] };
            for id in flushed {
                prop_assert!(memory.find(*id).is_none(), "taken back");
            }
        }
    }

    /// Goal: another process remembers the same.
    #[test]
    fn memories_cross(said in proptest::collection::vec((0..3_u8, any::<bool>()), 0..40)) {
        let recall = recall(20, 100, 60);
        let (mut memory, mut ids) = (Memory::new(recall, 7), FrameIds::seeded(6));
        for (at, (user, deletes)) in (7..).zip(said) {
            let id = ids.next_id();
            let frame = if deletes {
                event(id, PURGED, &encode::purged_attributes(&format!("u{user}"), ""))
            } else {
                message(id, &format!("u{user}"), "x")
            };
            memory.note(&frame, (at, 1), Tick::from_nanos(at), PURGED);
        }
        let (all, forgotten) = memory.all();
        let all: Vec<(u64, Tick, Vec<u8>)> = all.map(|one| (one.place().0, one.place().1, one.frame().to_vec())).collect();
        let mut other = Memory::new(recall, 0);
        other.inherit(all.iter().map(|(number, noted, frame)| (*number, *noted, &frame[..])), forgotten, PURGED);
        prop_assert_eq!(&other.kept, &memory.kept);
        prop_assert_eq!((other.forgotten, other.bytes, other.messages), (memory.forgotten, memory.bytes, memory.messages));
    }
}

/// Goal: a room of the largest messages gives each who joins what fits a join, and says that it is not all.
#[test]
fn a_join_is_bounded() {
    let recall = recall(200, 100, 60);
    let (mut memory, mut ids) = (Memory::new(recall, 0), FrameIds::seeded(7));
    let now = Tick::from_nanos(1);
    for at in 0..300 {
        let frame = message(ids.next_id(), "u", &"\u{1}".repeat(500));
        memory.note(&frame, (at, 1), now, PURGED);
    }
    assert_eq!(memory.len(), 200);
    for start in [
        Start::New,
        Start::At(Stand {
            frame: 250,
            is_sure: true,
        }),
    ] {
        let replay = memory.replay(start, now);
        assert!(replay.frames.len() <= HISTORY_JOIN_BYTES_MAX);
        assert!(replay.frames.len() > HISTORY_JOIN_BYTES_MAX - 4_000);
        assert!(!replay.is_complete);
        assert_eq!(
            ids_in(&replay.frames).len(),
            usize::try_from(replay.messages).expect("few")
        );
    }
    let near = Stand {
        frame: 295,
        is_sure: true,
    };
    assert!(memory.replay(Start::At(near), now).is_complete);
    let unsure = Stand {
        is_sure: false,
        ..near
    };
    assert!(!memory.replay(Start::At(unsure), now).is_complete);
}

/// Goal: messages are listed from the newest on, page by page, and an unknown id has none before it. A page goes on where the
/// one before ended although any of its messages, or of those that follow, were taken back, and several have the same time.
#[test]
fn pages_follow_each_other() {
    let mut ids = FrameIds::seeded(8);
    let said: Vec<FrameId> = std::iter::repeat_with(|| ids.next_id()).take(10).collect();
    let remembered = |alike: u64| {
        let mut memory = Memory::new(recall(50, 100, 0), 0);
        for (at, id) in (0..).zip(&said) {
            // So many have the same time each.
            let sent = UnixTime::from_secs(1_700_000_000 + at / alike);
            let frame = message_at(*id, "u", "x", sent);
            memory.note(&frame, (at, 1), Tick::from_nanos(at), PURGED);
        }
        memory
    };
    let page =
        |memory: &Memory, place: Option<Place>, most: usize| -> (Vec<FrameId>, Option<Place>) {
            let found: Vec<&[u8]> = memory
                .before(place.as_ref())
                .map(Remembered::payload)
                .collect();
            let (page, older) = found.split_at(most.min(found.len()));
            let ids = page.iter().filter_map(|payload| message_id(payload));
            let place = page
                .last()
                .and_then(|last| Place::of(last, older.iter().copied()));
            (ids.collect(), place)
        };
    let newest: Vec<FrameId> = said.iter().rev().copied().collect();
    for (alike, most) in [1, 3, 100]
        .into_iter()
        .flat_map(|alike| (1..10).map(move |most| (alike, most)))
    {
        for gone in 0..10_u32.pow(2) {
            let mut memory = remembered(alike);
            let (first, place) = page(&memory, None, most);
            assert_eq!(first, newest[..most]);
            let place = Place::parse(&place.expect("a place").to_string());
            // The last message of the page, and two others or none.
            let others = [gone / 10, gone % 10].map(|at| newest[usize::try_from(at).expect("few")]);
            for id in others.iter().chain([&newest[most - 1]]) {
                let event = event(
                    *id,
                    encode::DELETED,
                    &encode::deleted_attributes(id.as_str(), ""),
                );
                memory.note(&event, (99, 1), Tick::from_nanos(99), PURGED);
            }
            let (second, _) = page(&memory, place, 20);
            let mut wanted = newest[most..].to_vec();
            wanted.retain(|id| !others.contains(id));
            assert_eq!(second, wanted, "{alike} {most} {others:?}");
        }
    }
    let memory = remembered(3);
    assert_eq!(page(&memory, Some(newest[3].into()), 20).0, newest[4..]);
    assert!(page(&memory, Some(newest[9].into()), 5).0.is_empty());
    assert!(page(&memory, Some(ids.next_id().into()), 5).0.is_empty());
    assert_eq!(memory.of_user(Key::of_user("u")).count(), 10);
    assert_eq!(memory.of_user(Key::of_user("v")).count(), 0);
    for text in [
        "",
        "x",
        "AAAAAAAAAAA",
        "AAAAAAAAAAAA-",
        "AAAAAAAAAAAA-1",
        "AAAAAAAAAAAA-1-",
        "AAAAAAAAAAAAA-1-1",
        "\u{e9}AAAAAAAAAAA-1-1",
    ] {
        assert_eq!(Place::parse(text), None, "{text}");
    }
}

/// Goal: less is remembered at once when less is asked for, and the count says so.
#[test]
fn a_smaller_wish_forgets() {
    let (mut memory, mut ids) = (Memory::new(recall(50, 100, 0), 0), FrameIds::seeded(8));
    for at in 0..30 {
        memory.note(
            &message(ids.next_id(), "u", "x"),
            (at, 1),
            Tick::from_nanos(at),
            PURGED,
        );
    }
    memory.follow(recall(10, 100, 0));
    assert_eq!(memory.len(), 10);
    memory.expire(Tick::from_nanos(30).after(Duration::from_secs(101)));
    assert!(memory.is_empty() && memory.bytes() == 0);
}

/// Goal: a node that begins has what others remember, each message once and in order, without what was taken back meanwhile;
/// only once, and a server alone takes nothing.
#[test]
fn what_others_remember_comes_before() {
    let mut ids = FrameIds::seeded(8);
    let said: Vec<(FrameId, BytesMut)> = (0..6)
        .map(|at| {
            let id = ids.next_id();
            (id, message(id, if at == 2 { "bob" } else { "alice" }, "hi"))
        })
        .collect();
    let recall = recall(5, 100, 60);
    let at = |seconds: u64| Tick::from_nanos(seconds * 1_000_000_000);
    let mut memory = Memory::new(recall, 100).awaiting();
    // The last two were read here, too; one of before is deleted, another's user is purged.
    memory.note(
        &[&said[4].1[..], &said[5].1[..]].concat(),
        (100, 2),
        at(50),
        PURGED,
    );
    let deleted = event(
        ids.next_id(),
        encode::DELETED,
        &encode::deleted_attributes(said[0].0.as_str(), ""),
    );
    memory.note(&deleted, (102, 1), at(51), PURGED);
    let purged = event(ids.next_id(), PURGED, &encode::purged_attributes("bob", ""));
    memory.note(&purged, (103, 1), at(51), PURGED);
    let others = || {
        said.iter()
            .map(|(_, frame)| (at(49), &frame[..]))
            .chain([(at(49), &b"no frame"[..])])
    };
    assert_eq!(memory.precede(others()), 2);
    let wanted = [1, 3, 4, 5].map(|at: usize| said[at].0);
    assert_eq!(ids_in(&memory.replay(Start::New, at(52)).frames), wanted);
    let after = memory.replay(Start::After(said[1].0), at(52));
    assert_eq!(ids_in(&after.frames), wanted[1..]);
    assert!(after.is_complete && after.is_resumed);
    assert_eq!(memory.precede(others()), 0, "only once");
    assert_eq!(
        Memory::new(recall, 100).precede(others()),
        0,
        "a server alone has read all there is"
    );
}
