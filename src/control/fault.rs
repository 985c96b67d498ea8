//! The exceptions of the API: names, statuses and members as the SDKs expect them.

use std::fmt::Display;

use serde_json::{Value, json};

use super::arn::resource_id;
use super::server_order::OrderFault;
use uproar_proto::sigv4::SignatureFault;

/// One failed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Member name.
    pub name: String,
    /// Its fault.
    pub message: String,
}

/// What a call asked for and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A resource with an ARN. Its type has one value in the API of IVS Chat, for logging configurations, too.
    Resource,
    /// A message of which the room remembers nothing.
    Message,
    /// A message that no rule holds, or not any more.
    HeldMessage,
    /// A user's ban.
    Ban,
    /// A set of rules.
    RuleSet,
    /// A tally of a room.
    Tally,
}

impl Thing {
    /// `resourceType` and `message` of the exception.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Resource => ("ROOM", "Resource does not exist"),
            Self::Message => (
                "MESSAGE",
                "The message is not remembered; give its text in \"content\", too",
            ),
            Self::HeldMessage => (
                "HELD_MESSAGE",
                "The message is not held, or not any more; ListHeld names those that are",
            ),
            Self::Ban => (
                "BAN",
                "The user has no ban there; ListBans names those that have one",
            ),
            Self::RuleSet => (
                "RULE_SET",
                "No set of rules has this name; ListRuleSets names them",
            ),
            Self::Tally => ("TALLY", "The room has no tally of this id"),
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 400 `FIELD_VALIDATION_FAILED`.
    Fields(Vec<FieldFault>),
    /// 400 `OTHER`: the body as a whole is invalid.
    Body(&'static str),
    /// 404 with a type outside the API model: no such path.
    UnknownOperation,
    /// The same for an operation beyond IVS Chat, which the configuration switches off.
    SwitchedOff {
        /// The key that switches it on.
        key: &'static str,
    },
    /// 405.
    Method,
    /// 413.
    BodyTooLarge,
    /// 408: the body arrived too slowly.
    BodyTooSlow,
    /// 401-403 by SigV4.
    Signature(SignatureFault),
    /// 403: the key lacks the right.
    Denied {
        /// The access key id.
        key: String,
        /// The operation.
        operation: &'static str,
        /// The resource; `None` if there is no single one.
        resource: Option<String>,
    },
    /// 403: no token for a user who is banned.
    Banned,
    /// 404.
    NotFound {
        /// Of which kind.
        of: Thing,
        /// The requested resource.
        resource_id: String,
    },
    /// 406: the room's review denied a message.
    NotAcceptable {
        /// Why, for the message's sender.
        reason: Box<str>,
    },
    /// 409.
    Conflict {
        /// Of which kind it is.
        of: Thing,
        /// The resource to be changed.
        resource_id: String,
        /// The conflict.
        message: &'static str,
    },
    /// 402.
    Quota {
        /// The quota.
        limit: usize,
        /// The kind of resource.
        of: &'static str,
    },
    /// 429.
    Throttled {
        /// Calls per second.
        limit: u32,
    },
    /// 503: a thread or the disk does not answer in time. The call may still take effect.
    Late,
    /// 503: too many calls wait already; this one was not started.
    Busy,
    /// An order about the whole server that was not done.
    Order(OrderFault),
    /// 500; the cause was logged.
    Internal,
}

impl From<OrderFault> for Fault {
    fn from(fault: OrderFault) -> Self {
        Self::Order(fault)
    }
}

impl From<SignatureFault> for Fault {
    fn from(fault: SignatureFault) -> Self {
        Self::Signature(fault)
    }
}

const LATE: &str = "The server did not finish this call in time. It may still take effect: check before you repeat it";

impl Fault {
    /// One wrong field; the message continues its name.
    pub fn field(name: &str, message: impl Display) -> Self {
        Self::Fields(vec![FieldFault {
            name: name.to_owned(),
            message: message.to_string(),
        }])
    }

    /// No resource has this ARN.
    pub fn not_found(arn: &str) -> Self {
        Self::missing(Thing::Resource, resource_id(arn))
    }

    /// No thing of this kind has this id.
    pub fn missing(of: Thing, id: impl Into<String>) -> Self {
        Self::NotFound {
            of,
            resource_id: id.into(),
        }
    }

    /// The resource with this ARN cannot be changed like that now.
    pub fn conflict(arn: &str, message: &'static str) -> Self {
        Self::Conflict {
            of: Thing::Resource,
            resource_id: resource_id(arn).to_owned(),
            message,
        }
    }

    /// The exception's name and HTTP status.
    pub fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Fields(_) | Self::Body(_) => ("ValidationException", 400),
            Self::UnknownOperation | Self::SwitchedOff { .. } => ("UnknownOperationException", 404),
            Self::Method => ("UnsupportedOperationException", 405),
            Self::BodyTooLarge => ("RequestEntityTooLargeException", 413),
            Self::BodyTooSlow => ("RequestTimeoutException", 408),
            Self::Signature(fault) => match fault {
                SignatureFault::Missing => ("MissingAuthenticationTokenException", 403),
                SignatureFault::Incomplete(_) => ("IncompleteSignatureException", 400),
                SignatureFault::UnknownKey => ("UnrecognizedClientException", 403),
                SignatureFault::Invalid(_) | SignatureFault::Mismatch => {
                    ("InvalidSignatureException", 403)
                }
            },
            Self::Denied { .. } | Self::Banned => ("AccessDeniedException", 403),
            Self::NotFound { .. } => ("ResourceNotFoundException", 404),
            Self::NotAcceptable { .. } => ("NotAcceptableException", 406),
            Self::Conflict { .. } => ("ConflictException", 409),
            Self::Quota { .. } => ("ServiceQuotaExceededException", 402),
            Self::Throttled { .. } => ("ThrottlingException", 429),
            Self::Late | Self::Busy => ("ServiceUnavailableException", 503),
            Self::Order(fault) => fault.kind(),
            Self::Internal => ("InternalServerException", 500),
        }
    }

    /// The reason in words, for the log.
    pub fn reason(&self) -> String {
        let Self::Fields(fields) = self else {
            let body = self.body();
            return body["message"].as_str().unwrap_or_default().to_owned();
        };
        let fields = fields
            .iter()
            .map(|field| format!("{} {}", field.name, field.message));
        fields.collect::<Vec<_>>().join("; ")
    }

    /// The answer's body.
    pub fn body(&self) -> Value {
        match self {
            Self::Fields(fields) => refused_fields(fields),
            Self::Body(message) => json!({"message": message, "reason": "OTHER"}),
            Self::UnknownOperation => json!({"message": "Unknown operation"}),
            Self::SwitchedOff { key } => json!({"message": format!(
                "Unknown operation: it is switched off on this server; {key} = true offers it"
            )}),
            Self::Method => json!({"message": "Method is not allowed for this path"}),
            Self::BodyTooLarge => json!({"message": "Request body is larger than 256 KiB"}),
            Self::BodyTooSlow => json!({"message": "Request body took longer than 10 s"}),
            Self::Signature(fault) => json!({"message": fault.to_string()}),
            Self::Denied {
                key,
                operation,
                resource,
            } => {
                let on = resource.as_deref().unwrap_or("*");
                json!({"message": format!(
                    "Access key {key} is not authorized to perform: ivschat:{operation} on resource: {on}"
                )})
            }
            Self::Banned => json!({"message": "The user is banned from the room"}),
            Self::NotFound { of, resource_id } => {
                let (kind, message) = of.told();
                json!({"message": message, "resourceId": resource_id, "resourceType": kind})
            }
            Self::NotAcceptable { reason } => json!({ "message": reason }),
            Self::Conflict {
                of,
                resource_id,
                message,
            } => {
                let (kind, _) = of.told();
                json!({"message": message, "resourceId": resource_id, "resourceType": kind})
            }
            Self::Quota { limit, of } => json!({
                "message": format!("The quota of {limit} {of} is reached; delete some to create others"),
                "resourceId": "account",
                "resourceType": "ROOM",
                "limit": limit,
            }),
            Self::Throttled { limit } => json!({
                "message": format!("Rate exceeded: {limit} calls per second"),
                "resourceId": "account",
                "resourceType": "ROOM",
                "limit": limit,
            }),
            Self::Late => json!({ "message": LATE }),
            Self::Busy => json!({"message": "Too many calls wait for an answer; retry later"}),
            Self::Order(fault) => json!({"message": fault.message(), "reason": "OTHER"}),
            Self::Internal => json!({"message": "Internal server error"}),
        }
    }
}

fn refused_fields(fields: &[FieldFault]) -> Value {
    let list: Vec<Value> = fields
        .iter()
        .map(|field| json!({"name": field.name, "message": field.message}))
        .collect();
    let first = fields.first();
    let message = first.map_or_else(String::new, |first| {
        format!("{}: {}", first.name, first.message)
    });
    json!({"message": message, "reason": "FIELD_VALIDATION_FAILED", "fieldList": list})
}
