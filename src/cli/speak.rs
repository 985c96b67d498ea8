//! `uproar send`, `event`, `kick`, `delete`: what is said and done in a room.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::admin::order;
use super::failure::Failure;
use super::member::{Heard, Member};
use super::output::{print, printable};
use super::place::Place;
use crate::random;
use crate::server::{CallOrder, JoinOrder, Order, RoomOrder};
use uproar_proto::base::limits::CALL_ANSWER_MAX;

/// `uproar send`.
#[derive(Debug, clap::Args)]
pub(super) struct SendCommand {
    /// The room: its ARN, id or name
    room: String,
    /// What to say, as a viewer would
    text: String,
    /// The sender's user id
    #[arg(long = "as", value_name = "USER", default_value = "operator")]
    user: String,
    /// The message's attributes, a JSON object of texts
    #[arg(long, value_name = "JSON", value_parser = object)]
    attributes: Option<Map<String, Value>>,
    /// Print the message as JSON, as viewers get it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// `uproar event`.
#[derive(Debug, clap::Args)]
pub(super) struct EventCommand {
    /// The room: its ARN, id or name
    room: String,
    /// The event's name
    name: String,
    /// The event's attributes, a JSON object of texts
    #[arg(long, value_name = "JSON", value_parser = object)]
    attributes: Option<Map<String, Value>>,
    #[command(flatten)]
    place: Place,
}

/// `uproar kick`.
#[derive(Debug, clap::Args)]
pub(super) struct KickCommand {
    /// The room: its ARN, id or name
    room: String,
    /// The user's id; all connections of the user in the room are closed
    user: String,
    /// What the user is told
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// `uproar delete`.
#[derive(Debug, clap::Args)]
pub(super) struct DeleteCommand {
    /// The room: its ARN, id or name
    room: String,
    /// The message's id, as `uproar tap` shows it
    message: String,
    /// What viewers are told
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl SendCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let wish = JoinOrder {
            room: self.room.clone(),
            user: self.user.clone(),
            capabilities: vec!["SEND_MESSAGE".to_owned()],
            attributes: Map::new(),
        };
        let mut member = Member::join(&self.place, wish)?;
        let sent = self.send(&mut member).map_err(|error| {
            let late = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            );
            Failure::Run(if late {
                "the room has not answered; the message may still appear".to_owned()
            } else {
                error.to_string()
            })
        })?;
        print(&if self.json {
            format!("{sent}\n")
        } else {
            format!("{}\n", sent["Id"].as_str().unwrap_or_default())
        })
    }

    /// Says it, and waits until all members hear it.
    fn send(&self, member: &mut Member) -> io::Result<Value> {
        let request = format!("{:016x}", random::quick().u64(..));
        let mut said = json!({
            "Action": "SEND_MESSAGE",
            "RequestId": request,
            "Content": self.text,
        });
        if let Some(attributes) = &self.attributes {
            said["Attributes"] = Value::Object(attributes.clone());
        }
        // A review may take as long as a call; the room's other messages do not put the end off.
        member.wait_at_most(Some(CALL_ANSWER_MAX + Duration::from_secs(1)))?;
        member.say(&said.to_string())?;
        for _ in 0..HEARD_MAX {
            let text = match member.hear()? {
                Heard::Frame(text) => text,
                Heard::Closed(reason) => {
                    let message =
                        format!("the server closed the connection: {}", printable(&reason));
                    return Err(io::Error::other(message));
                }
            };
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            if frame["RequestId"].as_str() != Some(&*request) {
                continue;
            }
            return match frame["ErrorMessage"].as_str() {
                Some(error) => Err(io::Error::other(format!(
                    "refused: {error} ({})",
                    frame["ErrorCode"]
                ))),
                None => Ok(frame),
            };
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl EventCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut input = json!({ "eventName": self.name });
        if let Some(attributes) = &self.attributes {
            input["attributes"] = Value::Object(attributes.clone());
        }
        moderate(&self.place, &self.room, "SendEvent", input)
    }
}

impl KickCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let input = json!({ "userId": self.user });
        moderate(
            &self.place,
            &self.room,
            "DisconnectUser",
            with(input, self.reason.as_deref()),
        )
    }
}

impl DeleteCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let input = json!({ "id": self.message });
        moderate(
            &self.place,
            &self.room,
            "DeleteMessage",
            with(input, self.reason.as_deref()),
        )
    }
}

fn with(mut input: Value, reason: Option<&str>) -> Value {
    if let Some(reason) = reason {
        input["reason"] = reason.into();
    }
    input
}

/// Does an operation on a room, and prints the id of what it said there, if it has one.
fn moderate(place: &Place, room: &str, operation: &str, mut input: Value) -> Result<(), Failure> {
    input["roomIdentifier"] = arn(place, room)?.into();
    let answer = call(place, operation, input)?;
    match answer["body"]["id"].as_str() {
        Some(id) => print(&format!("{id}\n")),
        None => Ok(()),
    }
}

/// The ARN of a room.
pub(super) fn arn(place: &Place, room: &str) -> Result<String, Failure> {
    let wanted = RoomOrder {
        room: room.to_owned(),
        viewers: 0,
    };
    let told = order(place, &Order::Room(wanted))?;
    Ok(told["arn"].as_str().unwrap_or_default().to_owned())
}

/// Does an operation of the API.
pub(super) fn call(place: &Place, operation: &str, input: Value) -> Result<Value, Failure> {
    let Value::Object(input) = input else {
        unreachable!("bodies are objects");
    };
    let operation = operation.to_owned();
    order(place, &Order::Call(CallOrder { operation, input }))
}

/// Reads a JSON object of texts.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, String> {
    let wanted = "it must be a JSON object of texts, as in '{\"team\":\"home\"}'";
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("{wanted}: {error}"))?;
    match object.iter().find(|(_, value)| !value.is_string()) {
        Some((key, _)) => Err(format!("{wanted}: {key} is no text")),
        None => Ok(object),
    }
}

/// Frames of others that are heard before one's own: more than a room says in the time.
const HEARD_MAX: usize = 100_000;
