//! Whom the page's endpoints refuse before there is a room.

use super::*;
use crate::config::{Flags, Mode, load};

fn answer(extensions: bool, target: &str, host: &str) -> (u16, String) {
    let loaded = load(Mode::DEV, &Flags::default(), std::iter::empty());
    let mut settings = loaded.expect("the defaults are valid").settings;
    settings.extensions = extensions;
    let demo = Demo::new(LiveKeyring::default(), Clock::start(), &settings);
    let mut out = Vec::new();
    assert!(demo.answer(target, host, &mut out), "{target}");
    let text = String::from_utf8(out).expect("text");
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    (status.expect("a status"), text)
}

const ENDPOINTS: [&str; 5] = ["token", "room", "storm", "features", "poll"];

/// Goal: a page that was loaded by a stranger's name, which leads to this machine, gets nothing; one loaded by an address or
/// a name of this machine does.
#[test]
fn strange_names_are_refused() {
    for endpoint in ENDPOINTS {
        let target = format!("/demo/{endpoint}?user=ann");
        for strange in ["evil.example", "evil.example:8080", ""] {
            let (status, text) = answer(true, &target, strange);
            assert_eq!(status, 403, "{endpoint} {strange}");
            assert!(text.contains("Host is"), "{text}");
        }
        for own in ["127.0.0.1:8080", "[::1]", "localhost:8080", "10.0.0.7:1"] {
            let (status, text) = answer(true, &target, own);
            assert_eq!(status, 400, "{endpoint} {own}");
            assert!(text.contains("The room is not ready yet"), "{text}");
        }
    }
    assert_eq!(
        answer(true, "/", "evil.example").0,
        200,
        "a file is no secret"
    );
}

/// Goal: without extensions nothing of them is switched on.
#[test]
fn without_extensions_there_are_no_features() {
    for target in ["/demo/features?on=1", "/demo/poll?stop=demo-1"] {
        let (status, text) = answer(false, target, "localhost");
        assert_eq!(status, 409, "{target}");
        assert!(text.starts_with("HTTP/1.1 409 Conflict\r\n"), "{text}");
        assert!(text.contains("extensions.enabled"), "{text}");
    }
}
