//! A review handler that answers in any order, late, twice or never, and the check of the outcomes.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use rtrb::Consumer;
use serde_json::Value;
use uproar::net::io::Io;
use uproar::shard::command::Command;
use uproar::shard::core::Core;
use uproar::shard::review::ReviewRequest;
use uproar_proto::base::clock::Tick;
use uproar_proto::chat::review::{Rewrite, Verdict};
use uproar_proto::room::review::Fallback;

use super::dice::Dice;
use super::plan::WILD;

/// Short, so that a run of two simulated seconds sees many deadlines.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(30);

/// The expected outcome of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is delivered with this content, or with its own.
    Delivered(Option<String>),
    /// It is denied: ERROR 406 with this text, or with the server's own.
    Denied(Option<String>),
}

/// The handler and its decisions.
pub(crate) struct Reviewer {
    /// `None`: rooms of this seed are never reviewed.
    fallback: Option<Fallback>,
    attached: bool,
    open: Vec<(Tick, ReviewRequest)>,
    /// Expected outcomes by message id.
    pub(crate) outcomes: HashMap<String, Outcome>,
    /// Number of verdicts that were lost or too late.
    pub(crate) ignored_verdicts: usize,
}

impl Reviewer {
    /// Makes a handler with this fallback; without one, rooms have no handler.
    pub(crate) fn new(fallback: Option<Fallback>) -> Self {
        Self {
            fallback,
            attached: true,
            open: Vec::new(),
            outcomes: HashMap::new(),
            ignored_verdicts: 0,
        }
    }

    /// Returns the review setting of the room now.
    pub(crate) fn attached(&self) -> Option<Fallback> {
        self.fallback.filter(|_| self.attached)
    }

    /// Detaches the handler, or attaches it again.
    pub(crate) fn toggle(&mut self) {
        self.attached = !self.attached;
    }

    /// Forgets the requests of a process that has ended, also those that it was still sending. Their deadline has
    /// passed there, or the successor makes them again.
    pub(crate) fn begin_anew<'a>(
        &mut self,
        receivers: impl Iterator<Item = &'a mut Consumer<ReviewRequest>>,
    ) {
        let mut forgotten: Vec<_> = self.open.drain(..).map(|(_, request)| request).collect();
        for receiver in receivers {
            forgotten.extend(std::iter::from_fn(|| receiver.pop().ok()));
        }
        for request in forgotten {
            let outcome = self.without_verdict();
            self.outcomes.insert(request.id.to_string(), outcome);
        }
    }

    /// Returns the outcome of a message whose review brings no verdict.
    fn without_verdict(&self) -> Outcome {
        match self.fallback.expect("only reviewed rooms ask") {
            Fallback::Allow => Outcome::Delivered(None),
            Fallback::Deny => Outcome::Denied(None),
        }
    }

    /// Takes requests and gives verdicts that are due, within a turn of the shard.
    pub(crate) fn act<W: Io>(
        &mut self,
        dice: &mut Dice,
        now: Tick,
        receiver: &mut Consumer<ReviewRequest>,
        core: &mut Core<W>,
    ) {
        while let Ok(request) = receiver.pop() {
            // Another shard may not know yet that the room is reviewed.
            let ip = request.publish_request.ip();
            assert!(ip == "203.0.113.7" || ip.is_empty(), "the sender's address");
            // A quarter of the verdicts are later than the deadline.
            let due = now.after(Duration::from_millis(dice.below(40) as u64));
            self.open.push((due, request));
        }
        let (due, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(due, _)| *due <= now);
        self.open = open;
        for (_, request) in due {
            self.judge(dice, now, &request, core);
        }
    }

    fn judge<W: Io>(
        &mut self,
        dice: &mut Dice,
        now: Tick,
        request: &ReviewRequest,
        core: &mut Core<W>,
    ) {
        let id = request.id.to_string();
        let fallback = self.without_verdict();
        let verdict = match dice.below(10) {
            0 => {
                self.ignored_verdicts += 1;
                self.outcomes.insert(id, fallback);
                return;
            }
            1 => None,
            2..6 => Some(Verdict::Deny(format!("no {id}").into())),
            _ => Some(Verdict::Allow(Rewrite {
                content: format!("reviewed {id}").into(),
                attributes_json: None,
            })),
        };
        let outcome = match &verdict {
            _ if now >= request.deadline => {
                self.ignored_verdicts += 1;
                fallback
            }
            None => fallback,
            Some(Verdict::Allow(rewrite)) => Outcome::Delivered(Some(rewrite.content.to_string())),
            Some(Verdict::Deny(reason)) => Outcome::Denied(Some(reason.to_string())),
        };
        self.outcomes.insert(id, outcome);
        core.command(Command::Verdict(request.room, request.ticket, verdict));
        if dice.once_in(5) {
            // A second, different verdict comes too late.
            let other = Some(Verdict::Deny("changed my mind".into()));
            core.command(Command::Verdict(request.room, request.ticket, other));
        }
    }

    /// Checks that the delivered messages are those that were decided.
    pub(crate) fn check(&self, observed: &[Rc<Value>]) {
        let mut delivered: HashMap<&str, &Value> = HashMap::new();
        let mut last_time = "";
        let mut own: HashMap<&str, VecDeque<u64>> = HashMap::new();
        for text in observed.iter().filter(|text| text["Type"] == "MESSAGE") {
            delivered.insert(text["Id"].as_str().unwrap(), text);
            let time = text["SendTime"].as_str().unwrap();
            // This holds also when the wall clock steps back.
            assert!(cut(last_time) <= cut(time), "{time} behind {last_time}");
            last_time = time;
            let request = text["RequestId"].as_str().unwrap();
            if text["Sender"]["UserId"] == WILD {
                continue;
            }
            if let Some((sender, number)) = request.split_once(':') {
                own.entry(sender)
                    .or_default()
                    .push_back(number.parse().unwrap());
            }
        }
        for (sender, numbers) in own {
            assert!(
                numbers.iter().is_sorted(),
                "{sender} was reordered: {numbers:?}"
            );
        }
        for (id, outcome) in &self.outcomes {
            let text = delivered.get(id.as_str());
            match outcome {
                Outcome::Denied(_) => {
                    assert!(text.is_none(), "{id} was denied, but delivered");
                }
                Outcome::Delivered(content) => {
                    let text = text.unwrap_or_else(|| panic!("{id} was not delivered"));
                    let found = text["Content"].as_str().unwrap();
                    match content {
                        Some(content) => assert_eq!(found, content, "{id}"),
                        None if text["Sender"]["UserId"] == WILD => {}
                        None => assert!(found.starts_with('x') || found == ".", "{id}"),
                    }
                }
            }
        }
    }

    /// Checks that an ERROR 406 has the decided text.
    pub(crate) fn check_denial(&self, error: &Value) {
        let id = error["Id"].as_str().unwrap();
        let Some(Outcome::Denied(reason)) = self.outcomes.get(id) else {
            panic!("{error} was not decided");
        };
        if let Some(reason) = reason {
            assert_eq!(error["ErrorMessage"], reason.as_str());
        }
    }
}

/// Splits a time into seconds and fraction: trailing zeros of the fraction are trimmed on the wire.
fn cut(time: &str) -> (String, u64) {
    let (whole, fraction) = time
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((time.trim_end_matches('Z'), "0"));
    (whole.to_owned(), format!("{fraction:0<9}").parse().unwrap())
}
