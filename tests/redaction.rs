//! Deleted text is in nobody's bytes afterwards: wherever a viewer's send stands when the deletion comes.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::sync::oneshot;
use uproar::net::io::Key;
use uproar::net::tls::{Tls, tell_secrets};
use uproar::shard::command::{ApiMessage, Command};
use uproar_proto::chat::encode;
use uproar_proto::extension::Settings;
use uproar_proto::ws::{self, Inflater};
use uproar_testing::client::text;
use uproar_testing::parts::GREETING;
use uproar_testing::single_shard::viewer;

use crate::estate::Process;

/// What slow sockets take in a turn: less than the header of an event, so that sends stop everywhere.
const FEW: usize = 23;

/// A process whose room remembers; its first viewer, who says everything, takes what he gets at once.
fn remembering() -> Process {
    Process::tagged(Settings {
        history: Some(50),
        resume: Some(60),
        ..Settings::default()
    })
}

/// The same with three slow viewers beside him; the second and the fourth take compressed messages.
fn crowd() -> Process {
    let mut process = remembering();
    process.admit(4, true);
    process.fast = vec![process.keys()[0]];
    process
}

fn say(process: &mut Process, content: &str) {
    let request = format!(r#"{{"Action":"SEND_MESSAGE","Content":"{content}"}}"#);
    process.receive(process.keys()[0], &text(request.as_bytes()));
}

/// The id of what the first viewer got with this content.
fn id_of(process: &Process, content: &str) -> Box<str> {
    let got = frames(process.got(process.keys()[0]));
    let found = got.iter().find(|frame| frame["Content"] == content);
    found.unwrap()["Id"].as_str().unwrap().into()
}

fn delete(process: &mut Process, id: &str) {
    let (answer, _answered) = oneshot::channel();
    process.pass(Duration::ZERO);
    process.core.command(Command::DeleteMessage {
        room: process.room,
        id: id.into(),
        reason: "x".into(),
        answer,
    });
}

fn delete_all(process: &mut Process, ids: &[Box<str>]) {
    for id in ids {
        delete(process, id);
    }
}

fn purge(process: &mut Process, user: usize) {
    take_back(process, Some(&format!("{user:040}")));
}

/// Takes back what a user said, or everything.
fn take_back(process: &mut Process, user_id: Option<&str>) {
    let (answer, _answered) = oneshot::channel();
    process.pass(Duration::ZERO);
    process.core.command(Command::Purge {
        room: process.room,
        user_id: user_id.map(Into::into),
        reason: "x".into(),
        answer,
    });
}

/// The frames in a viewer's bytes, which are whole, as JSON; empty ones are left out.
fn frames(got: &[u8]) -> Vec<serde_json::Value> {
    parted(got).into_iter().map(|(_, frame)| frame).collect()
}

/// The same with where each begins.
fn parted(got: &[u8]) -> Vec<(usize, serde_json::Value)> {
    let mut inflater = Inflater::default();
    let (mut at, mut frames) = (0, Vec::new());
    let greeting = if got.starts_with(GREETING) {
        GREETING.len()
    } else {
        0
    };
    for (whole, payload) in ws::split(&got[greeting..]) {
        let payload = if ws::is_deflated(whole) {
            let (plain, len) = inflater.inflate(payload, 10_000).unwrap();
            plain[..len].to_vec()
        } else {
            payload.to_vec()
        };
        if whole[0] & 15 == 1 {
            frames.push((greeting + at, serde_json::from_slice(&payload).unwrap()));
        }
        at += whole.len();
    }
    assert_eq!(greeting + at, got.len(), "whole frames");
    frames
}

/// How many viewers' frames with deleted text were left out, and how many had begun.
#[derive(Debug, Default)]
struct Tally {
    cut: usize,
    begun: usize,
}

impl Tally {
    /// A viewer got this, of which `before` bytes before the deletion: all messages once and in order but `SECRET` ones, of
    /// which only frames that had begun are there.
    fn check(&mut self, got: &[u8], before: usize, said: &[&str], case: &str) {
        let all = parted(got);
        let mut contents = Vec::new();
        for (at, frame) in &all {
            let Some(content) = frame["Content"].as_str() else {
                continue;
            };
            if content.starts_with("SECRET") {
                assert!(*at < before, "{content} at {at}, {before} before; {case}");
                self.begun += 1;
            }
            contents.push(content.to_owned());
        }
        self.cut += said
            .iter()
            .filter(|text| !contents.contains(&(**text).to_owned()))
            .count();
        let fine = |text: &&&str| !text.starts_with("SECRET");
        let wanted: Vec<_> = said.iter().filter(fine).collect();
        let found: Vec<_> = contents.iter().map(String::as_str).collect();
        let found: Vec<_> = found.iter().filter(fine).collect();
        assert_eq!(found, wanted, "{case}");
    }

    /// Both have happened.
    fn end(&self) {
        assert!(self.cut > 0 && self.begun > 0, "{self:?}");
    }
}

/// What is said before the deletion, in two batches, and what is said behind it.
const FIRST: [&str; 4] = ["fine 1", "SECRET 2", "fine 3", "SECRET 4"];
const SECOND: [&str; 2] = ["SECRET 5", "fine 6"];
const LAST: &str = "fine 7";

fn said() -> Vec<&'static str> {
    [&FIRST[..], &SECOND[..], &[LAST]].concat()
}

/// Slow viewers whose sends of both batches have gone on for some turns, and stand in no kernel.
fn stopped_after(turns: usize, second: &[&str]) -> Process {
    let mut process = crowd();
    process.most = FEW;
    for content in FIRST {
        say(&mut process, content);
    }
    process.turns(turns / 2);
    for content in second {
        say(&mut process, content);
    }
    process.turns(2 + turns.div_ceil(2));
    stop(&mut process);
    process
}

/// What the kernel has is taken: what is left waits here.
fn stop(process: &mut Process) {
    process.pass(Duration::ZERO);
    while !process.core.io().sends.is_empty() {
        process.complete_sends();
    }
}

fn lengths(process: &Process) -> BTreeMap<Key, usize> {
    let keys = process.keys();
    keys.iter()
        .map(|key| (*key, process.got(*key).len()))
        .collect()
}

/// Slow sockets take a little for some turns, then everything.
fn drain(process: &mut Process) {
    process.turns(7);
    process.most = usize::MAX;
    process.turns(10);
}

/// How the messages are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All at once.
    Together,
    /// Some turns after each other.
    Apart,
    /// With everything that their sender has said.
    Purge,
    /// When the room's log has dropped them.
    Late,
}

const WAYS: [Way; 4] = [Way::Together, Way::Apart, Way::Purge, Way::Late];

/// Goal: whatever part of a batch a socket has taken, the rest of it, and what was not begun, goes on without deleted
/// messages; compressed or not. A frame that has begun is ended. Method: viewers whose sockets take a few bytes a turn, and
/// the deletion after each number of turns.
#[test]
fn a_rest_goes_on_without_deleted_text() {
    for way in WAYS {
        let mut tally = Tally::default();
        for turns in 0..90 {
            // The log would drop the second batch, too: a slow viewer misses it.
            let second = if way == Way::Late {
                &[][..]
            } else {
                &SECOND[..]
            };
            let said = [&FIRST[..], second].concat();
            let mut process = stopped_after(turns, second);
            let secrets = said.iter().filter(|text| text.starts_with("SECRET"));
            let ids: Vec<_> = secrets.map(|text| id_of(&process, text)).collect();
            let mut before = BTreeMap::new();
            if way == Way::Late {
                // Each viewer takes something meanwhile.
                process.most = 1;
                for _ in 0..3 {
                    process.pass(Duration::from_secs(5));
                    process.turns(2);
                }
                stop(&mut process);
            }
            match way {
                Way::Together | Way::Late => delete_all(&mut process, &ids),
                Way::Apart => {
                    for id in &ids {
                        before.insert(id.clone(), lengths(&process));
                        delete(&mut process, id);
                        process.turns(2);
                        stop(&mut process);
                    }
                }
                Way::Purge => purge(&mut process, 0),
            }
            if way != Way::Apart {
                for id in &ids {
                    before.insert(id.clone(), lengths(&process));
                }
            }
            drain(&mut process);
            let all = if way == Way::Purge {
                said
            } else {
                [&said[..], &[LAST]].concat()
            };
            if way != Way::Purge {
                say(&mut process, LAST);
                process.turns(5);
            }
            for (number, key) in process.keys().into_iter().enumerate().skip(1) {
                let case = format!("{way:?} after {turns} turns, viewer {number}");
                let got = process.got(key);
                if way == Way::Apart {
                    // Each by its own moment.
                    for (at, frame) in parted(got) {
                        let id = frame["Id"].as_str().unwrap();
                        if let Some(lengths) = before.get(id) {
                            assert!(at < lengths[&key], "{case}: {frame}");
                        }
                    }
                    tally.check(got, usize::MAX, &all, &case);
                } else if way == Way::Purge {
                    // All of it is taken back; what stands before the events had begun.
                    let before = before.values().next().unwrap()[&key];
                    for (at, frame) in parted(got) {
                        assert!(frame["Content"].is_null() || at < before, "{case}: {frame}");
                        tally.begun += usize::from(!frame["Content"].is_null());
                    }
                    tally.cut += 1;
                } else {
                    let before = before.values().next().unwrap()[&key];
                    tally.check(got, before, &all, &case);
                }
                let events = frames(got)
                    .into_iter()
                    .filter(|frame| frame["EventName"] == encode::DELETED);
                assert!(events.count() >= ids.len(), "{case}: everybody is told");
            }
        }
        tally.end();
    }
}

/// Goal: so it is across a hand-over: deleted before it, or after it while the rest still waits. Method: as above.
#[test]
fn a_rest_goes_on_without_it_in_another_process() {
    for is_late in [false, true] {
        let mut tally = Tally::default();
        for turns in 0..60 {
            let mut old = stopped_after(turns, &SECOND);
            let ids: Vec<_> = ["SECRET 2", "SECRET 4", "SECRET 5"]
                .map(|text| id_of(&old, text))
                .into();
            let old_keys = old.keys();
            old.most = 0;
            old.most_after = 0;
            let before = lengths(&old);
            if !is_late {
                // Nothing is sent before the export.
                old.is_stuck = true;
                delete_all(&mut old, &ids);
            }
            let mut new = old.hand_over();
            stop(&mut new);
            new.fast = vec![new.keys()[0]];
            if is_late {
                delete_all(&mut new, &ids);
                new.turns(1);
            }
            new.most = FEW;
            drain(&mut new);
            say(&mut new, LAST);
            new.turns(5);
            for (number, (old_key, key)) in old_keys.into_iter().zip(new.keys()).enumerate().skip(1)
            {
                let case = format!("viewer {number} after {turns} turns, late: {is_late}");
                let got = [old.got(old_key), new.got(key)].concat();
                tally.check(&got, before[&old_key], &said(), &case);
            }
        }
        tally.end();
    }
}

/// Goal: whoever joins, or comes back, while a deletion comes, gets what is remembered without the text, or is told of the
/// deletion behind a frame that had begun; in this process, and in the next one. Method: his socket takes a few bytes a
/// turn; the deletion comes after each number of turns.
#[test]
fn a_join_beside_a_deletion_goes_on_without_the_text() {
    for (is_back, hands_over) in [
        (false, None),
        (true, None),
        (false, Some(false)),
        (false, Some(true)),
    ] {
        let mut tally = Tally::default();
        for turns in 0..70 {
            let mut process = crowd();
            if is_back {
                let leaver = process.keys()[3];
                process.pass(Duration::ZERO);
                process.core.received(leaver, None, &Ok(0), false);
                process.turns(2);
            }
            for content in FIRST {
                say(&mut process, content);
            }
            process.turns(2);
            let (room, now) = (process.room, process.now);
            let mut pending = viewer((), room, if is_back { 3 } else { 5 }, now, true);
            pending.token = viewer((), room, 9, now, false).token;
            process.most = if turns == 0 { 0 } else { FEW };
            process.pass(Duration::ZERO);
            process.core.enter(pending);
            process.turns(1 + turns);
            stop(&mut process);
            let key = *process.keys().last().unwrap();
            let ids = ["SECRET 2", "SECRET 4"].map(|text| id_of(&process, text));
            let before = process.got(key).len();
            let mut got = Vec::new();
            let mut key_now = key;
            if let Some(is_late) = hands_over {
                if !is_late {
                    process.is_stuck = true;
                    delete_all(&mut process, &ids);
                }
                process.most = 0;
                process.most_after = 0;
                let mut new = process.hand_over();
                got.extend_from_slice(process.got(key));
                stop(&mut new);
                new.fast = vec![new.keys()[0]];
                key_now = *new.keys().last().unwrap();
                process = new;
            }
            if hands_over != Some(false) {
                delete_all(&mut process, &ids);
            }
            process.turns(1);
            process.most = FEW;
            drain(&mut process);
            say(&mut process, LAST);
            process.turns(5);
            got.extend_from_slice(process.got(key_now));
            let case =
                format!("after {turns} turns, back: {is_back}, handed over late: {hands_over:?}");
            let said = [&FIRST[..], &[LAST]].concat();
            tally.check(&got, before, &said, &case);
            let events = frames(&got)
                .into_iter()
                .filter(|frame| frame["EventName"] == encode::DELETED);
            assert_eq!(events.count(), 2, "{case}");
        }
        tally.end();
    }
}

/// Goal: a purge and a clear also take back what was not sent yet and is not remembered, or no longer. What somebody else said
/// stays if one user is purged. Method: a room that remembers one message, and one that remembers none.
#[test]
fn what_is_not_remembered_is_taken_back_too() {
    for history in [None, Some(1)] {
        for clears in [false, true] {
            let mut process = Process::tagged(Settings {
                history,
                ..Settings::default()
            });
            process.admit(5, true);
            process.fast = process.keys()[..1].to_vec();
            process.most = FEW;
            // One for each viewer, so that all have a send that goes on.
            say(&mut process, "fine 0");
            process.turns(1);
            for number in 1..20 {
                let (who, word) = if number % 5 == 0 {
                    (4, "fine")
                } else {
                    (0, "SECRET")
                };
                let request = format!(r#"{{"Action":"SEND_MESSAGE","Content":"{word} {number}"}}"#);
                process.receive(process.keys()[who], &text(request.as_bytes()));
                process.turns(1);
            }
            stop(&mut process);
            let user = format!("{:040}", 0);
            take_back(&mut process, (!clears).then_some(&*user));
            drain(&mut process);
            for key in &process.keys()[1..4] {
                let got = frames(process.got(*key));
                let count = |word: &str| {
                    let is_of = |frame: &&serde_json::Value| {
                        let content = frame["Content"].as_str().unwrap_or_default();
                        content.starts_with(word)
                    };
                    got.iter().filter(is_of).count()
                };
                // The frame that had begun is ended.
                assert!(count("SECRET") <= 1, "{history:?} {clears}: {got:?}");
                assert!(clears || count("fine") == 4, "{history:?}: {got:?}");
            }
        }
    }
}

/// Goal: what is taken back in the batch in which it was said is in nobody's bytes at all.
#[test]
fn a_message_that_is_taken_back_at_once_is_never_sent() {
    for purges in [false, true] {
        let mut process = crowd();
        let (answer, mut said) = oneshot::channel();
        process.pass(Duration::ZERO);
        let message = ApiMessage {
            content: "SECRET".into(),
            attributes_json: "{}".into(),
            sender_json: encode::sender_json(&format!("{:040}", 0), std::iter::empty()).into(),
            is_exempt: false,
        };
        let (room, message) = (process.room, Box::new(message));
        process
            .core
            .command(Command::SendMessage(room, message, answer));
        let id = said.try_recv().unwrap().unwrap().id;
        if purges {
            purge(&mut process, 0);
        } else {
            delete(&mut process, id.as_str());
        }
        process.turns(3);
        let key = viewer((), room, 7, process.now, false);
        process.pass(Duration::ZERO);
        process.core.enter(key);
        process.turns(3);
        for (number, key) in process.keys().into_iter().enumerate() {
            let got = frames(process.got(key));
            assert!(
                got.iter().all(|frame| frame["Content"].is_null()),
                "viewer {number}"
            );
            let told = got.iter().any(|frame| {
                !frame["Attributes"]["MessageID"].is_null()
                    || !frame["Attributes"]["UserId"].is_null()
            });
            assert!(told || number == 4, "viewer {number}: {got:?}");
        }
    }
}

/// An established pair, of which the client's side reads.
fn tls() -> (Box<Tls>, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tell_secrets(&mut server);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = Box::new(Tls::new(Arc::new(server)).unwrap());
    for _ in 0..4 {
        let (mut sent, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        server.receive(&mut sent, &mut plain, &mut out).unwrap();
        unseal(&mut client, &out);
    }
    (server, client)
}

/// Gives the client what the server sent; what it read.
fn unseal(client: &mut ClientConnection, mut sealed: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !sealed.is_empty() {
        client.read_tls(&mut sealed).unwrap();
        client.process_new_packets().unwrap();
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = client.reader().read(&mut part) {
            got.extend_from_slice(&part[..len]);
        }
    }
    got
}

/// Goal: over TLS what is not sealed yet goes on without deleted text; what is sealed arrives whole, and the deletion behind
/// it. Method: as above; the first batch is sealed at once, the second one when the first has gone.
#[test]
fn what_tls_has_not_sealed_goes_without_deleted_text() {
    let (mut sealed, mut cut) = (0, 0);
    for turns in 0..140 {
        let mut process = crowd();
        let (server, mut client) = tls();
        let mut pending = viewer((), process.room, 5, process.now, false);
        pending.tls = Some(server);
        process.pass(Duration::ZERO);
        process.core.enter(pending);
        process.turns(3);
        let key = *process.keys().last().unwrap();
        process.most = FEW;
        for content in FIRST {
            say(&mut process, content);
        }
        process.turns(2);
        for content in SECOND {
            say(&mut process, content);
        }
        process.turns(2 + turns);
        stop(&mut process);
        let ids = ["SECRET 2", "SECRET 4", "SECRET 5"].map(|text| id_of(&process, text));
        let before = process.got(key).len();
        delete_all(&mut process, &ids);
        drain(&mut process);
        let got = process.got(key);
        // The first record has all of the first batch.
        let plain = unseal(&mut client, got);
        let contents: Vec<String> = frames(&plain)
            .iter()
            .filter_map(|frame| Some(frame["Content"].as_str()?.to_owned()))
            .collect();
        assert_eq!(contents[..4], FIRST, "after {turns} turns: sealed at once");
        match &contents[4..] {
            [fine] if fine == "fine 6" => cut += 1,
            [secret, fine] if secret == "SECRET 5" && fine == "fine 6" => sealed += 1,
            other => panic!("{other:?} after {turns} turns, {before} bytes"),
        }
        let events = frames(&plain)
            .into_iter()
            .filter(|frame| frame["EventName"] == encode::DELETED);
        assert_eq!(events.count(), 3);
        let total = got.len();
        assert!(before <= total);
    }
    assert!(sealed > 0 && cut > 0, "{sealed} sealed, {cut} cut");
}
