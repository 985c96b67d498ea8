//! The patterns of strings, as the API model of Amazon IVS Chat has them.

use crate::control::arn::is_arn;
use uproar_proto::base::id::{FrameId, LoggingId};
use uproar_proto::chat::review::is_function_arn;
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::rules::{Action, Kind, is_rule_name};
use uproar_proto::extension::settings::is_role;
use uproar_proto::extension::tally::TallyPlan;
use uproar_proto::room::memory::Place;
use uproar_proto::token::Capability;

/// A pattern that a string must match.
#[derive(Clone, Copy)]
pub(in crate::control) struct Pattern {
    /// The pattern as shown to the caller.
    pub(super) text: &'static str,
    pub(super) admits: fn(&str) -> bool,
}

/// Any text.
pub(in crate::control) const ANY: Pattern = Pattern {
    text: ".*",
    admits: |_| true,
};

/// Names of rooms and logging configurations.
pub(in crate::control) const NAME: Pattern = Pattern {
    text: "[a-zA-Z0-9-_]*",
    admits: |text| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    },
};

/// A Lambda function, or nothing.
pub(in crate::control) const LAMBDA_ARN: Pattern = Pattern {
    text: "^$|^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:.+",
    admits: |text| text.is_empty() || is_function_arn(text),
};

/// A logging configuration.
pub(in crate::control) const LOGGING_ARN: Pattern = Pattern {
    text: "arn:aws:ivschat:[a-z0-9-]+:[0-9]+:logging-configuration/[a-zA-Z0-9-]+",
    admits: is_arn::<LoggingId>,
};

/// The result if the review handler fails.
pub(in crate::control) const FALLBACK_RESULT: Pattern = Pattern {
    text: "ALLOW|DENY",
    admits: |text| matches!(text, "ALLOW" | "DENY"),
};

/// A right of a token's holder.
pub(in crate::control) const CAPABILITY: Pattern = Pattern {
    text: "SEND_MESSAGE|DELETE_MESSAGE|DISCONNECT_USER",
    admits: |text| Capability::parse(text).is_some(),
};

/// A tally's id.
pub(in crate::control) const TALLY_ID: Pattern = Pattern {
    text: "[a-zA-Z0-9-_]+",
    admits: TallyPlan::is_id,
};

/// The name of a role.
pub(in crate::control) const ROLE: Pattern = Pattern {
    text: "[a-zA-Z0-9-_]{1,32}",
    admits: is_role,
};

/// What a banned user may not do.
pub(in crate::control) const BAN_MODE: Pattern = Pattern {
    text: "timeout|ban|shadow",
    admits: |text| BanMode::parse(text).is_some(),
};

/// The name of a set of rules, or the id of a rule.
pub(in crate::control) const RULE_NAME: Pattern = Pattern {
    text: "[a-zA-Z0-9-_]{1,32}",
    admits: is_rule_name,
};

/// What a rule looks for.
pub(in crate::control) const RULE_KIND: Pattern = Pattern {
    text: "words|regex|links|caps|repeats",
    admits: |text| Kind::parse(text).is_some(),
};

/// What becomes of a message that a rule hits.
pub(in crate::control) const RULE_ACTION: Pattern = Pattern {
    text: "mask|hold|shadow|reject|timeout",
    admits: |text| Action::parse(text).is_some(),
};

/// What a moderator decides of a message that is held.
pub(in crate::control) const DECISION: Pattern = Pattern {
    text: "allow|deny",
    admits: |text| matches!(text, "allow" | "deny"),
};

/// A message's id.
pub(in crate::control) const MESSAGE_ID: Pattern = Pattern {
    text: "[a-zA-Z0-9]+",
    admits: |text| FrameId::parse(text).is_some(),
};

/// Before a message: its id, or what a page said of the next one.
pub(in crate::control) const MESSAGE_PLACE: Pattern = Pattern {
    text: "[a-zA-Z0-9]+(-[0-9]+-[0-9]+-[a-zA-Z0-9]*)?",
    admits: |text| Place::parse(text).is_some(),
};

/// Event names; names of the service's own events are excluded.
pub(in crate::control) const EVENT_NAME: Pattern = Pattern {
    text: "^(?!aws:).+",
    admits: |text| !text.starts_with("aws:"),
};

/// An S3 bucket.
pub(in crate::control) const BUCKET: Pattern = Pattern {
    text: "[a-z0-9-.]+",
    admits: |text| {
        let admits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        text.bytes().all(admits)
    },
};

/// A CloudWatch log group.
pub(in crate::control) const LOG_GROUP: Pattern = Pattern {
    text: r"[\.\-_/#A-Za-z0-9]+",
    admits: |text| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b))
    },
};

/// A Firehose stream.
pub(in crate::control) const STREAM: Pattern = Pattern {
    text: "[a-zA-Z0-9_.-]+",
    admits: |text| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    },
};
