//! What the demo page's switch does: tags of the room, as anybody sets them by the API, and polls.
//!
//! Never: what moderators and members do. They say it in the room, as every client can.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::control::operation::Operation;
use crate::control::{CallFault, Control};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{TALLY_OPTIONS_MAX, TALLY_SECONDS_MAX};
use uproar_proto::extension::is_ours;

/// The tags of the ready room while its features are on: what a page can show, at a pace that can be watched. What holds
/// people back is a moderator's to switch on.
const TAGS: &[(&str, &str)] = &[
    ("uproar:viewers", "1"),
    ("uproar:history", "50"),
    ("uproar:resume", "120"),
    ("uproar:reactions", "heart+fire+star+laugh"),
    ("uproar:reactions-ms", "500"),
    ("uproar:commands", "slash"),
    ("uproar:show-bans", "all"),
    ("uproar:state", "on"),
];

/// An order of the page about what the room has beyond IVS Chat.
#[derive(Debug)]
pub(super) enum FeatureOrder {
    /// Switches it on or off.
    Switch(bool),
    /// Begins a poll: its id, what StartTally takes beside it.
    StartPoll(Value),
    /// Ends a poll.
    StopPoll(String),
}

impl FeatureOrder {
    /// A poll of these options, one a line.
    ///
    /// # Errors
    ///
    /// Why it cannot be one, for people.
    pub(super) fn poll(
        number: u64,
        question: &str,
        options: &str,
        seconds: &str,
    ) -> Result<Self, String> {
        let seconds: u32 = seconds.parse().unwrap_or_default();
        let options: Vec<&str> = options.lines().map(str::trim).collect();
        let options: Vec<&str> = options
            .into_iter()
            .filter(|line| !line.is_empty())
            .collect();
        let is_whole = !question.trim().is_empty()
            && (2..=TALLY_OPTIONS_MAX).contains(&options.len())
            && (1..=TALLY_SECONDS_MAX).contains(&seconds);
        if !is_whole {
            return Err(format!(
                "A poll has a question, 2 to {TALLY_OPTIONS_MAX} options, and 1 to {TALLY_SECONDS_MAX} seconds\n"
            ));
        }
        Ok(Self::StartPoll(json!({
            "id": format!("demo-{number}"),
            "question": question.trim(),
            "options": options,
            "seconds": seconds,
        })))
    }

    /// Does it through the API's own operations.
    ///
    /// # Errors
    ///
    /// Why it is refused, for people.
    pub(super) async fn carry_out(self, room: RoomId, control: &Rc<Control>) -> Result<(), String> {
        let names = control.room_names(room);
        let arn = &names["arn"];
        let done = match self {
            Self::Switch(true) => {
                let tags: serde_json::Map<String, Value> = TAGS
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).into()))
                    .collect();
                control.tag_room(room, &tags.into()).await
            }
            Self::Switch(false) => control.untag_room(room).await,
            Self::StartPoll(mut input) => {
                input["roomIdentifier"] = arn.clone();
                let started = control.operate(Operation::StartTally, &input).await;
                started.map(drop)
            }
            Self::StopPoll(id) => {
                let input = json!({"roomIdentifier": arn, "id": id});
                let stopped = control.operate(Operation::StopTally, &input).await;
                stopped.map(drop)
            }
        };
        done.map_err(|fault| match fault {
            CallFault::Paused => "The server is being handed over to a new process.".to_owned(),
            CallFault::Refused(fault) => fault.reason(),
        })
    }
}

/// What a room, as GetRoom shows it, has beyond IVS Chat: `on`, and the names of its `reactions`.
pub(super) fn shown(settings: &Value) -> Value {
    let tags = settings["tags"].as_object();
    let on = tags.is_some_and(|tags| tags.keys().any(|key| is_ours(key)));
    let reactions = settings["tags"]["uproar:reactions"].as_str();
    let reactions: Vec<&str> = reactions.map_or_else(Vec::new, |names| names.split('+').collect());
    json!({"on": on, "reactions": reactions})
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::extension::tags;

    /// Goal: the switch asks for tags that the server has.
    #[test]
    fn the_switch_sets_valid_tags() {
        for (key, value) in TAGS {
            assert_eq!(tags::check(key, value), Ok(()), "{key}");
        }
        let off = json!({"on": false, "reactions": []});
        assert_eq!(shown(&json!({"tags": {"team": "uproar:"}})), off);
        assert_eq!(shown(&Value::Null), off);
        let tags = json!({"tags": {"uproar:reactions": "heart+fire"}});
        assert_eq!(
            shown(&tags),
            json!({"on": true, "reactions": ["heart", "fire"]})
        );
    }

    /// Goal: what is no poll is refused before anybody is asked, and empty lines are no options.
    #[test]
    fn a_poll_has_options() {
        let poll = |question, options, seconds| FeatureOrder::poll(7, question, options, seconds);
        let Ok(FeatureOrder::StartPoll(input)) = poll(" Who? ", "Red\n\n Blue \n", "60") else {
            panic!("a poll");
        };
        let wanted =
            json!({"id": "demo-7", "question": "Who?", "options": ["Red", "Blue"], "seconds": 60});
        assert_eq!(input, wanted);
        for (question, options, seconds) in [
            ("", "a\nb", "60"),
            ("q", "a", "60"),
            ("q", "a\nb", "0"),
            ("q", "a\nb", "x"),
        ] {
            assert!(
                poll(question, options, seconds).is_err(),
                "{question} {options} {seconds}"
            );
        }
    }
}
