//! `uproar tap`: what a room says, live, as one more member of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::member::{Heard, Member};
use super::output::{print, printable};
use super::place::Place;
use crate::logging;
use crate::server::JoinOrder;
use uproar_proto::base::limits::TAP_QUEUE_MAX;

/// `uproar tap`.
#[derive(Debug, clap::Args)]
pub(super) struct TapCommand {
    /// The room: its ARN, id or name
    room: String,
    /// Print each frame as viewers get it, a JSON object a line
    #[arg(long)]
    json: bool,
    /// End after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The user id of this member
    #[arg(long = "as", value_name = "USER", default_value = "operator")]
    user: String,
    #[command(flatten)]
    place: Place,
}

impl TapCommand {
    /// Shows frames until the room is gone, or `count` were shown, or nobody reads any more.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let member = Member::join(
            &self.place,
            JoinOrder {
                room: self.room.clone(),
                user: self.user.clone(),
                capabilities: Vec::new(),
                attributes: Map::new(),
            },
        )?;
        if !self.json {
            let name = member.room["name"].as_str().or(member.room["id"].as_str());
            let name = printable(name.unwrap_or_default());
            let user = printable(&self.user);
            logging::print(&format!("listening to {name}, as {user}; Ctrl-C ends\n"));
        }
        let (queue, shown) = sync_channel(TAP_QUEUE_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let missed = Arc::clone(&left_out);
        // The member always reads, so that a slow terminal costs the room nothing and this command says what it lost.
        let listener = std::thread::Builder::new().name("tap".to_owned());
        let listener = listener
            .spawn(move || {
                let tell = |heard| match queue.try_send(heard) {
                    Ok(()) => true,
                    Err(TrySendError::Full(Heard::Frame(_))) => {
                        missed.fetch_add(1, Ordering::Relaxed);
                        true
                    }
                    // The end must be told.
                    Err(TrySendError::Full(end)) => queue.send(end).is_ok(),
                    Err(TrySendError::Disconnected(_)) => false,
                };
                listen(member, tell);
            })
            .map_err(|error| Failure::Run(format!("no thread: {error}")))?;
        let outcome = self.show(&shown, &left_out);
        drop(shown);
        // It waits for the room's next word; the process ends without it.
        drop(listener);
        outcome
    }

    fn show(&self, shown: &Receiver<Heard>, left_out: &AtomicU64) -> Result<(), Failure> {
        let mut count = 0;
        while self.count.is_none_or(|most| count < most) {
            let Ok(heard) = shown.recv() else {
                return Err(Failure::Run("the server ended the connection".to_owned()));
            };
            let lost = left_out.swap(0, Ordering::Relaxed);
            if lost > 0 {
                print(&self.lost(lost))?;
            }
            match heard {
                Heard::Frame(text) => print(&self.line(&text))?,
                Heard::Closed(reason) => {
                    let reason = printable(&reason);
                    return Err(Failure::Run(format!(
                        "the server closed the connection: {reason}"
                    )));
                }
            }
            count += 1;
        }
        Ok(())
    }

    fn lost(&self, lost: u64) -> String {
        if self.json {
            return format!("{}\n", json!({"Type": "LEFT_OUT", "Count": lost}));
        }
        format!("… {lost} frames are left out: they came faster than this terminal takes them\n")
    }

    fn line(&self, text: &str) -> String {
        if self.json {
            return format!("{text}\n");
        }
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |value: &Value| printable(value.as_str().unwrap_or_default());
        // As in 2026-11-28T21:45:16.123Z.
        let time = word(&frame["SendTime"]);
        let time = time.get(11..19).unwrap_or("--:--:--");
        let id = word(&frame["Id"]);
        let attributes = frame["Attributes"].as_object();
        let attributes = attributes.filter(|attributes| !attributes.is_empty());
        let attributes = attributes.map_or_else(String::new, |_some| {
            printable(&format!(" {}", frame["Attributes"]))
        });
        match frame["Type"].as_str() {
            Some("MESSAGE") => {
                let (user, content) = (word(&frame["Sender"]["UserId"]), word(&frame["Content"]));
                format!("{time} {id} {user}: {content}{attributes}\n")
            }
            Some("EVENT") => format!("{time} {id} * {}{attributes}\n", word(&frame["EventName"])),
            _ => format!("{time} {}\n", printable(text)),
        }
    }
}

/// Hears until the end, or until nobody wants it.
fn listen(mut member: Member, tell: impl Fn(Heard) -> bool) {
    loop {
        let heard = match member.hear() {
            Ok(heard) => heard,
            Err(error) => Heard::Closed(error.to_string()),
        };
        let is_end = matches!(heard, Heard::Closed(_));
        if !tell(heard) || is_end {
            return;
        }
    }
}
