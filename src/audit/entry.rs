//! One act of moderation, and its line.

use serde_json::json;
use uproar_proto::base::clock::UnixTime;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// An access key of the API, or the admin socket, by its id.
    Key(String),
    /// A moderator, by the user id.
    User(String),
    /// What was set up before, as the tag `uproar:kick`.
    Rule(&'static str),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: UnixTime,
    /// By whom.
    pub by: By,
    /// The operation, the action of the protocol, or the command, as they are called.
    pub action: &'static str,
    /// The room's ARN; empty: all rooms.
    pub room: String,
    /// A message's id, a user's id, or what was set.
    pub target: String,
    /// What was given as the reason.
    pub reason: String,
    /// `ok`, or the status of the refusal.
    pub result: String,
}

impl Entry {
    /// Appends the line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (kind, id) = match &self.by {
            By::Key(id) => ("key", &**id),
            By::User(id) => ("user", &**id),
            By::Rule(id) => ("rule", *id),
        };
        let line = json!({
            "time": self.time.rfc3339(),
            "by": {"kind": kind, "id": id},
            "action": self.action,
            "room": self.room,
            "target": self.target,
            "reason": self.reason,
            "result": self.result,
        });
        // JSON escapes the line breaks of ASCII; with these a record is one line to every tool, whatever is in it.
        let line = line
            .to_string()
            .replace('\u{85}', "\\u0085")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}
