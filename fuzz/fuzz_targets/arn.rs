//! ARNs: one reading for all who read them, and what this server would write for what it read is what it read.
//!
//! Input: the text of an ARN.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::control::access::grant::Grant;
use uproar::control::arn::{Account, Taggable, is_arn, resource_id};
use uproar_proto::base::id::{LoggingId, RoomId};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let account = Account {
        region: "us-west-2".to_owned(),
        id: "123456789012".to_owned(),
    };
    let room = account.parse::<RoomId>(text);
    let logging = account.parse::<LoggingId>(text);
    assert_eq!(room.is_ok(), is_arn::<RoomId>(text));
    assert_eq!(logging.is_ok(), is_arn::<LoggingId>(text));
    assert!(room.is_err() || logging.is_err(), "one kind each");
    let taggable = account.parse_taggable(text);
    assert_eq!(taggable.is_ok(), room.is_ok() || logging.is_ok());
    if let Ok(Some(id)) = room {
        assert_eq!(account.arn(id), text);
        assert_eq!(resource_id(text), id.to_string());
        assert_eq!(taggable, Ok(Some(Taggable::Room(id))));
    } else if let Ok(Some(id)) = logging {
        assert_eq!(account.arn(id), text);
        assert_eq!(taggable, Ok(Some(Taggable::Logging(id))));
    }
    // Patterns of access keys are read against ARNs, not the other way round.
    let exact = Grant::new(None, vec![text.to_owned()]);
    assert!(text.contains(['*', '?']) || exact.covers(Some(text)));
    assert!(Grant::new(None, vec!["*".to_owned()]).covers(Some(text)));
});
