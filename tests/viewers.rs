//! The number of viewers: with messages it takes no send of its own.

use uproar::net::io::Key;
use uproar_proto::extension::Settings;
use uproar_testing::client::text;
use uproar_testing::single_shard::viewer;

use crate::estate::Process;

const SECONDS: u32 = 5;
const NAME: &[u8] = b"uproar:viewers";

/// Sends of frames to one viewer, those of them with the number of viewers, and those with nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sends {
    all: usize,
    with_number: usize,
    of_number_alone: usize,
}

/// A room with the first viewer, who hears; one who speaks at this interval in milliseconds, or nobody; one who comes each second.
fn hears(speaks_every: Option<u64>) -> Sends {
    let mut process = Process::tagged(Settings {
        viewers: Some(SECONDS),
        ..Settings::default()
    });
    process.admit(2, false);
    let keys = process.keys();
    let mut sends = Sends::default();
    // Whoever answers no Ping is gone after a minute.
    for millis in 0..51_000 {
        if speaks_every.is_some_and(|every| millis % every == 0) {
            let request = text(br#"{"Action":"SEND_MESSAGE","Content":"x"}"#);
            process.receive(keys[1], &request);
        }
        if millis % 1_000 == 0 {
            let index = 2 + usize::try_from(millis / 1_000).unwrap();
            let guest = viewer((), process.room, index, process.now, false);
            process.core.enter(guest);
        }
        process.turns(1);
        // What greets the first viewers is over by then.
        if millis >= 1_000 {
            sends.note(&process, keys[0]);
        }
    }
    sends
}

impl Sends {
    fn note(&mut self, process: &Process, hearer: Key) {
        for (_, send) in process
            .core
            .io()
            .sends
            .iter()
            .filter(|(key, _)| *key == hearer)
        {
            let bytes = send.copy(send.remaining());
            let has = |name: &[u8]| bytes.windows(name.len()).any(|part| part == name);
            let (has_number, has_message) = (has(NAME), has(b"\"MESSAGE\""));
            // A Ping has neither.
            self.all += usize::from(has_number || has_message);
            self.with_number += usize::from(has_number);
            self.of_number_alone += usize::from(has_number && !has_message);
        }
    }
}

/// Goal: in a room where somebody speaks the number rides with messages; it comes alone, as often, where nobody does.
#[test]
fn the_number_of_viewers_rides() {
    let quiet = hears(None);
    assert_eq!(quiet.all, quiet.of_number_alone);
    assert!((9..=11).contains(&quiet.with_number), "{quiet:?}");
    let busy = hears(Some(125));
    // A Ping that falls between takes a send of its own.
    assert!(busy.of_number_alone <= 1, "{busy:?}");
    assert_eq!(busy.all - busy.of_number_alone, 400, "{busy:?}");
    assert!((9..=11).contains(&busy.with_number), "{busy:?}");
}

/// Goal: one who speaks less often than the number is due is not waited for.
#[test]
fn the_number_of_viewers_waits_for_nobody() {
    let rare = hears(Some(7_000));
    assert!((8..=11).contains(&rare.with_number), "{rare:?}");
    assert!(rare.of_number_alone >= 6, "{rare:?}");
}
