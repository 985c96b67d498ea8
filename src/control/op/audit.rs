//! ListAuditRecords; and what the API does as moderation is noted before it is answered.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::authorize::{Authorized, Subject};
use super::request::Answer;
use crate::audit::{By, Entry, Place, page};
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use crate::supervisor::blocking;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::AUDIT_PAGE_MAX;
use uproar_proto::extension::is_ours;
use uproar_proto::sigv4::percent_decode;

/// A call of moderation that is about to be carried out.
#[derive(Debug)]
pub(super) struct Draft {
    operation: Operation,
    by: String,
    subject: Subject,
}

impl Draft {
    /// What the call will be noted as; `None`: it is no moderation, or nothing is noted.
    pub(super) fn of(control: &Control, operation: Operation, call: &Authorized) -> Option<Self> {
        if !operation.is_moderation() || !control.gateway.shared().audit.is_on() {
            return None;
        }
        let mut subject = call.subject();
        if operation == Operation::UntagResource {
            subject.target = untagged(call.query());
        }
        // A tag of one's own holds nobody back.
        let is_about_tags = matches!(operation, Operation::TagResource | Operation::UntagResource);
        if is_about_tags && !subject.target.split(' ').any(is_ours) {
            return None;
        }
        Some(Self {
            operation,
            by: call.key_id.clone(),
            subject,
        })
    }

    /// Notes it with its outcome. What was refused as not valid was not carried out, and is no record.
    pub(super) async fn record(self, control: &Control, answer: &Result<Answer, Fault>) {
        let result = match answer {
            Ok(_) => "ok".to_owned(),
            Err(fault) if fault.kind().1 == 400 => return,
            Err(fault) => fault.kind().1.to_string(),
        };
        let Subject {
            room,
            target,
            reason,
        } = self.subject;
        let entry = Entry {
            time: now(control),
            by: By::Key(self.by),
            action: self.operation.name(),
            room,
            target,
            reason,
            result,
        };
        control.gateway.shared().audit.record(entry).await;
    }
}

fn now(control: &Control) -> UnixTime {
    control.clock.now().unix
}

/// The keys of an UntagResource.
fn untagged(query: &str) -> String {
    let keys = query.split('&').filter_map(|pair| {
        let key = pair.strip_prefix("tagKeys=")?;
        String::from_utf8(percent_decode(key)).ok()
    });
    keys.collect::<Vec<_>>().join(" ")
}

pub(super) async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let room = input.text("roomIdentifier", 1..=128, ANY);
    let count_max = input.integer("maxResults", 1..=AUDIT_PAGE_MAX);
    let before = place(&mut input);
    input.finish()?;
    let Some(directory) = control
        .gateway
        .shared()
        .audit
        .directory()
        .map(ToOwned::to_owned)
    else {
        let none = "The audit file is switched off: audit.enabled";
        return Err(Fault::Body(none));
    };
    let count_max = usize::try_from(count_max.unwrap_or(AUDIT_PAGE_MAX)).expect("at most 100");
    let page = blocking(move || page(&directory, room.as_deref(), before, count_max)).await;
    let page = page.map_err(|error| {
        if let Some(suppressed) = local::admit(Kind::Audit) {
            tracing::error!(%error, suppressed, "the audit file cannot be read");
        }
        Fault::Internal
    })?;
    let mut answer = Map::new();
    if let Some(Place { file, bytes }) = page.next {
        let token = URL_SAFE_NO_PAD.encode(format!("{file}:{bytes}"));
        answer.insert("nextToken".to_owned(), token.into());
    }
    answer.insert("records".to_owned(), Value::Array(page.records));
    Ok((200, Some(answer.into())))
}

/// The place of `nextToken`.
fn place(input: &mut Input) -> Option<Place> {
    let token = input.text("nextToken", 0..=64, ANY)?;
    if token.is_empty() {
        return None;
    }
    let place = read(&token);
    if place.is_none() {
        let must = "must be one that this server returned; list again without it";
        input.fault("nextToken", must);
    }
    place
}

fn read(token: &str) -> Option<Place> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (file, bytes) = text.split_once(':')?;
    Some(Place {
        file: file.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}
