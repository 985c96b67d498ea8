//! Sessions: however a client's bytes arrive, the session asks for the same things, and for nothing after its end. Of what
//! comes behind a Close of ours, only the client's own Close counts, if it can be told where that begins.
//!
//! Input: four piece lengths, of which the second also says whether the client may moderate, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::token::Capability;

use uproar_proto::session::{Effect, Grant, Input, Session, SessionContext};

fuzz_target!(|data: &[u8]| {
    let Some((lengths, stream)) = data.split_first_chunk::<4>() else {
        return;
    };
    let may_moderate = lengths[1] >= 0x80;
    let lengths = lengths.map(|length| usize::from(length) + 1);
    let whole = asked(stream, &[stream.len().max(1)], may_moderate);
    assert_eq!(whole, asked(stream, &lengths, may_moderate));
});

fn asked(stream: &[u8], lengths: &[usize], may_moderate: bool) -> Vec<String> {
    let capabilities = Capability::ALL.into_iter();
    let capabilities = capabilities.filter(|one| may_moderate || *one == Capability::SendMessage);
    let grant = Grant {
        sender_json: r#"{"UserId":"u","Attributes":{}}"#.into(),
        capabilities: capabilities.collect(),
        ends: Tick::from_nanos(u64::MAX),
    };
    let now = Tick::from_nanos(1_000_000_000);
    let mut context = SessionContext::chat(None);
    let mut session = Session::new(grant, None, now);
    let (mut said, mut rest) = (Vec::new(), stream);
    let (mut closing, mut ended) = (false, false);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*length).min(rest.len()));
        rest = later;
        let mut buffer = [piece, &[0x81; PARSE_PADDING_BYTES]].concat();
        let mut input = Input::new(&mut buffer, piece.len(), 100);
        while let Some(effect) = session.next(&mut input, &mut context, now) {
            let is_end = matches!(effect, Effect::PeerClosed);
            assert!(!ended || is_end, "{effect:?} after the end");
            ended |= matches!(effect, Effect::PeerClosed | Effect::Flood);
            if let Effect::Publish { sender_json, .. } = &effect {
                assert_eq!(*sender_json, r#"{"UserId":"u","Attributes":{}}"#);
            }
            let is_close = matches!(effect, Effect::AnswerClose { .. } | Effect::Violation(_));
            if closing {
                assert!(is_end, "{effect:?} behind a Close");
            } else {
                said.push(format!("{effect:?}"));
            }
            closing |= is_close;
        }
    }
    said
}
