//! Tags, commands and slash commands: no text panics, a valid value is shown as it is read again, and no request carries an
//! attribute of ours past the server, whatever its spelling.
//!
//! Input: lines; the first three are a tag's name, its value and a message, the rest is a chat request as a client sends it.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, PARSE_PADDING_BYTES};
use uproar_proto::chat::{Parser, Request};
use uproar_proto::extension::{Commands, Settings, Traits, command, is_ours, tags};
use uproar_proto::token::{Capabilities, Capability};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (name, value, message) = (text(), text(), text());
    let request = parts.next().unwrap_or_default();
    tag(&name, &value);
    let crew = Capability::ALL.into_iter().collect();
    slash(&message, crew);
    forge(request, crew);
});

fn tag(name: &str, value: &str) {
    let _checked = tags::check(&format!("uproar:{name}"), value);
    let _traits = Traits::of([(&*format!("uproar:{name}"), value)]);
    let Some(tag) = tags::Tag::named(name) else {
        return;
    };
    let mut read = Settings::default();
    if tag.set(value, &mut read).is_ok() {
        let shown = tag.show(&read);
        let mut again = Settings::default();
        if !shown.is_empty() {
            tag.set(&shown, &mut again)
                .expect("it is shown as it is read");
        }
        assert_eq!(again, read);
    } else {
        assert_eq!(read, Settings::default(), "a refusal changes nothing");
    }
}

fn slash(content: &str, crew: Capabilities) {
    let request = Request::SendMessage {
        content,
        attributes_json: "null",
        request_id: "",
    };
    let found = command::read(&request, Commands::Slash, crew);
    assert_eq!(found.is_some(), content.starts_with('/'), "a moderator's");
    let viewer = Capabilities::default();
    assert_eq!(command::read(&request, Commands::Slash, viewer), None);
    assert_eq!(command::read(&request, Commands::Attributes, crew), None);
}

fn forge(bytes: &[u8], crew: Capabilities) {
    let len = bytes.len();
    let mut padded = bytes.to_vec();
    padded.resize(len + PARSE_PADDING_BYTES, 0);
    let mut parser = Parser::default();
    let Ok(request) = parser.parse(&mut padded, len, CONTENT_CHARS_MAX) else {
        return;
    };
    for capabilities in [crew, Capabilities::default()] {
        let found = command::read(&request, Commands::Attributes, capabilities);
        let Request::SendMessage {
            attributes_json, ..
        } = request
        else {
            assert_eq!(found, None, "only messages are commands");
            continue;
        };
        let attributes: Option<BTreeMap<String, String>> =
            serde_json::from_str(attributes_json).expect("an object of texts, or null");
        let has_ours = attributes.is_some_and(|all| all.keys().any(|key| is_ours(key)));
        assert_eq!(found.is_some(), has_ours, "what is published has none");
    }
}
