//! `uproar room`: rooms of a running server.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::admin::order;
use super::failure::Failure;
use super::output::{print, printable};
use super::place::Place;
use super::speak::{arn, call};
use crate::server::{By, Order, RoomOrder, RoomsOrder};
use uproar_proto::base::limits::{ADMIN_ROOMS_MAX, ADMIN_VIEWERS_MAX};

/// `uproar room`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RoomCommand {
    /// The largest or busiest rooms, or all of them
    List(ListCommand),
    /// One room: its viewers, messages and settings
    Show(ShowCommand),
    /// Make a room; prints its ARN
    Create(CreateCommand),
    /// Change a room's settings; viewers stay
    Set(SetCommand),
    /// Delete a room; its viewers are disconnected
    Delete(DeleteCommand),
}

/// Rooms that are listed.
#[derive(Debug, clap::Args)]
pub(super) struct ListCommand {
    /// What they are ordered by, greatest first
    #[arg(long, value_enum, default_value = "viewers", conflicts_with_all = ["all", "name"])]
    by: By,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    count: usize,
    /// All rooms, the newest change first
    #[arg(long, conflicts_with = "count")]
    all: bool,
    /// Rooms of this name
    #[arg(long, conflicts_with = "count")]
    name: Option<String>,
    /// Print a JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The room that is shown.
#[derive(Debug, clap::Args)]
pub(super) struct ShowCommand {
    /// The room: its ARN, id or name
    room: String,
    /// Name this many of its viewers, on this server
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = viewers)]
    viewers: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Settings of a room.
#[derive(Debug, clap::Args)]
struct Settings {
    /// Messages a second of all its viewers together
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Characters of a message
    #[arg(long, value_name = "N")]
    length: Option<u32>,
    /// The ARN of its message review handler; empty: none
    #[arg(long, value_name = "ARN")]
    handler: Option<String>,
    /// What happens to a message that the handler does not judge: ALLOW or DENY
    #[arg(long, value_name = "RESULT")]
    fallback: Option<String>,
    /// The ARN of a logging configuration; several for several, empty for none
    #[arg(long, value_name = "ARN")]
    logging: Vec<String>,
}

/// The room that is made.
#[derive(Debug, clap::Args)]
pub(super) struct CreateCommand {
    /// Its name; others may have the same
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// Print the room as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The room that is changed.
#[derive(Debug, clap::Args)]
pub(super) struct SetCommand {
    /// The room: its ARN, id or name
    room: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// Print the room as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// The room that is deleted.
#[derive(Debug, clap::Args)]
pub(super) struct DeleteCommand {
    /// The room: its ARN, id or name
    room: String,
    #[command(flatten)]
    place: Place,
}

impl RoomCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Create(command) => command.run(),
            Self::Set(command) => command.run(),
            Self::Delete(command) => {
                let place = &command.place;
                let room = arn(place, &command.room)?;
                call(place, "DeleteRoom", json!({ "identifier": room })).map(drop)
            }
        }
    }
}

impl ListCommand {
    fn run(&self) -> Result<(), Failure> {
        let is_page = self.all || self.name.is_some();
        let mut wanted = RoomsOrder {
            by: (!is_page).then_some(self.by),
            count: (!is_page).then_some(self.count),
            token: None,
            name: self.name.clone(),
            text: None,
        };
        let mut head = if self.json { String::new() } else { heading() };
        loop {
            let told = order(&self.place, &Order::Rooms(wanted.clone()))?;
            // Behind the first answer, so that a refusal stands alone.
            print(&std::mem::take(&mut head))?;
            let rooms = told["rooms"].as_array().into_iter().flatten();
            let line = |room: &Value| {
                if self.json {
                    format!("{room}\n")
                } else {
                    line(room)
                }
            };
            print(&rooms.map(line).collect::<String>())?;
            let Some(token) = told["token"].as_str() else {
                return Ok(());
            };
            wanted.token = Some(token.to_owned());
        }
    }
}

impl ShowCommand {
    fn run(&self) -> Result<(), Failure> {
        let wanted = RoomOrder {
            room: self.room.clone(),
            viewers: self.viewers,
        };
        let told = order(&self.place, &Order::Room(wanted))?;
        print(&if self.json {
            format!("{told}\n")
        } else {
            shown(&told)
        })
    }
}

impl Settings {
    /// The API's members for what is given.
    fn input(&self) -> Map<String, Value> {
        let mut input = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            input.extend(value.map(|value| (key.to_owned(), value)));
        };
        set("maximumMessageRatePerSecond", self.rate.map(Value::from));
        set("maximumMessageLength", self.length.map(Value::from));
        let handler = [("uri", &self.handler), ("fallbackResult", &self.fallback)];
        let handler: Map<String, Value> = handler
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.into())))
            .collect();
        let has_handler = !handler.is_empty();
        set(
            "messageReviewHandler",
            has_handler.then_some(handler.into()),
        );
        let logging = self.logging.iter().filter(|arn| !arn.is_empty());
        let logging: Vec<_> = logging.cloned().collect();
        let is_given = !self.logging.is_empty();
        set(
            "loggingConfigurationIdentifiers",
            is_given.then_some(logging.into()),
        );
        input
    }
}

impl CreateCommand {
    fn run(&self) -> Result<(), Failure> {
        let mut input = self.settings.input();
        if let Some(name) = &self.name {
            input.insert("name".to_owned(), name.as_str().into());
        }
        let made = call(&self.place, "CreateRoom", input.into())?;
        tell(&made["body"], self.json)
    }
}

impl SetCommand {
    fn run(&self) -> Result<(), Failure> {
        let mut input = self.settings.input();
        if let Some(name) = &self.name {
            input.insert("name".to_owned(), name.as_str().into());
        }
        if input.is_empty() {
            let message = "nothing to set: name a setting, as in --rate 20; --help lists them";
            return Err(Failure::Usage(message.to_owned()));
        }
        input.insert(
            "identifier".to_owned(),
            arn(&self.place, &self.room)?.into(),
        );
        let changed = call(&self.place, "UpdateRoom", input.into())?;
        if self.json {
            return tell(&changed["body"], true);
        }
        print(&settings(&changed["body"]))
    }
}

fn tell(room: &Value, json: bool) -> Result<(), Failure> {
    print(&if json {
        format!("{room}\n")
    } else {
        format!("{}\n", room["arn"].as_str().unwrap_or_default())
    })
}

fn heading() -> String {
    format!(
        "{:>9} {:>9}  {:<12}  {}\n",
        "VIEWERS", "PER MIN", "ID", "NAME"
    )
}

fn line(room: &Value) -> String {
    let number = |key: &str| room[key].as_u64().unwrap_or_default();
    let text = |key: &str| printable(room[key].as_str().unwrap_or_default());
    let (viewers, rate) = (number("viewers"), number("per_minute"));
    let name = text("name");
    format!("{viewers:>9} {rate:>9}  {:<12}  {name}\n", text("id"))
}

/// A room, for people.
fn shown(room: &Value) -> String {
    let text = |key: &str| printable(room[key].as_str().unwrap_or("-"));
    let mut out = String::new();
    let mut add = |what: &str, value: String| {
        writeln!(out, "{what:<12} {value}").expect("memory takes every write");
    };
    add("name", text("name"));
    add("arn", text("arn"));
    add("viewers", format!("{} on this server", room["viewers"]));
    add("messages", format!("{} a minute", room["per_minute"]));
    out + &settings(&room["settings"]) + &named(&room["named"])
}

fn settings(room: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("none"));
    let handler = &room["messageReviewHandler"];
    let mut out = format!(
        "{:<12} {} messages a second, {} characters each\n",
        "limits", room["maximumMessageRatePerSecond"], room["maximumMessageLength"]
    );
    if let Some(uri) = handler["uri"].as_str() {
        let fallback = text(&handler["fallbackResult"]);
        let uri = printable(uri);
        writeln!(out, "{:<12} {uri}, else {fallback}", "reviewed by").expect("memory");
    }
    let logging = room["loggingConfigurationIdentifiers"].as_array();
    for arn in logging.into_iter().flatten() {
        writeln!(out, "{:<12} {}", "logged to", text(arn)).expect("memory");
    }
    for (key, value) in room["tags"].as_object().into_iter().flatten() {
        writeln!(out, "{:<12} {} = {}", "tag", printable(key), text(value)).expect("memory");
    }
    out
}

fn named(viewers: &Value) -> String {
    let viewers = viewers.as_array().into_iter().flatten();
    let line = |viewer: &Value| {
        let user = printable(viewer["UserId"].as_str().unwrap_or_default());
        let attributes = printable(&viewer["Attributes"].to_string());
        format!("{:<12} {user} {attributes}\n", "viewer")
    };
    viewers.map(line).collect()
}

fn count(text: &str) -> Result<usize, String> {
    number(text, 1, ADMIN_ROOMS_MAX)
}

fn viewers(text: &str) -> Result<usize, String> {
    number(text, 0, ADMIN_VIEWERS_MAX)
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("it must be {least} to {most}"))
}
