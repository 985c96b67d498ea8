//! ARNs of this server's resources: `arn:aws:ivschat:<region>:<account>:<kind>/<id>`.

use std::fmt::Display;
use std::hash::Hash;

use uproar_proto::base::id::{BanId, LoggingId, RoomId, RuleSetId};

/// Longest ARN the API accepts, in characters.
pub(super) const ARN_CHARS_MAX: usize = 128;

/// An id that is the last part of an ARN.
pub trait ResourceId: Copy + Ord + Hash + Display {
    /// The part of the ARN before the id.
    const KIND: &'static str;

    /// `None` unless `text` is an id.
    fn parse(text: &str) -> Option<Self>;

    /// From uniform random bits.
    fn from_random(bits: u128) -> Self;
}

macro_rules! resource_id {
    ($type:ident, $kind:literal) => {
        impl ResourceId for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Option<Self> {
                Self::parse(text)
            }

            fn from_random(bits: u128) -> Self {
                Self::from_random(bits)
            }
        }
    };
}

resource_id!(RoomId, "room");
resource_id!(LoggingId, "logging-configuration");
resource_id!(BanId, "ban");
resource_id!(RuleSetId, "rule-set");

/// A resource that can have tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taggable {
    /// A room.
    Room(RoomId),
    /// A logging configuration.
    Logging(LoggingId),
}

/// Why a text is not an ARN of the kind that is asked for. The texts continue a field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// Not an ARN of this kind.
    #[error("must be an ARN: arn:aws:ivschat:<region>:<account>:{kind}/<id>")]
    Malformed {
        /// The part before the id.
        kind: &'static str,
    },
    /// Not an ARN of a kind that has tags.
    #[error("must be the ARN of a room or of a logging configuration")]
    NotTaggable,
}

/// Region and account, which are part of every ARN of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As in `us-west-2`.
    pub region: String,
    /// Twelve digits.
    pub id: String,
}

impl Account {
    /// A resource's ARN.
    pub fn arn<I: ResourceId>(&self, id: I) -> String {
        let (region, account, kind) = (&self.region, &self.id, I::KIND);
        format!("arn:aws:ivschat:{region}:{account}:{kind}/{id}")
    }

    /// The id of an ARN of one kind; `None` for a well-formed ARN of another region, account or id
    /// length, which names no resource here, exactly as a deleted one.
    ///
    /// # Errors
    ///
    /// A malformed ARN, or one of another kind.
    pub fn parse<I: ResourceId>(&self, arn: &str) -> Result<Option<I>, ArnError> {
        let parts = Parts::of(arn).filter(|parts| parts.kind == I::KIND);
        let parts = parts.ok_or(ArnError::Malformed { kind: I::KIND })?;
        Ok(self.owns(&parts).then(|| I::parse(parts.id)).flatten())
    }

    /// Like [`Account::parse`], for any kind that has tags.
    ///
    /// # Errors
    ///
    /// A malformed ARN, or one of a kind that has no tags.
    pub fn parse_taggable(&self, arn: &str) -> Result<Option<Taggable>, ArnError> {
        match Parts::of(arn).map(|parts| parts.kind) {
            Some(RoomId::KIND) => Ok(self.parse(arn)?.map(Taggable::Room)),
            Some(LoggingId::KIND) => Ok(self.parse(arn)?.map(Taggable::Logging)),
            Some(_) | None => Err(ArnError::NotTaggable),
        }
    }

    fn owns(&self, parts: &Parts<'_>) -> bool {
        parts.region == self.region && parts.account == self.id
    }
}

/// Whether the text is an ARN of this kind, of any region and account.
pub fn is_arn<I: ResourceId>(text: &str) -> bool {
    Parts::of(text).is_some_and(|parts| parts.kind == I::KIND)
}

/// The last part of an ARN, which exceptions carry as `resourceId`.
pub fn resource_id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

struct Parts<'a> {
    region: &'a str,
    account: &'a str,
    kind: &'a str,
    id: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` if the pattern does not hold.
    fn of(arn: &'a str) -> Option<Self> {
        let all = |text: &str, admits: fn(u8) -> bool| !text.is_empty() && text.bytes().all(admits);
        let rest = arn.strip_prefix("arn:aws:ivschat:")?;
        let (region, rest) = rest.split_once(':')?;
        let (account, resource) = rest.split_once(':')?;
        let (kind, id) = resource.split_once('/')?;
        let holds = arn.len() <= ARN_CHARS_MAX
            && all(region, |b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
            })
            && all(account, |b| b.is_ascii_digit())
            && all(id, |b| b.is_ascii_alphanumeric() || b == b'-');
        holds.then_some(Self {
            region,
            account,
            kind,
            id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: our resources are found, foreign ones do not exist, anything else is malformed.
    #[test]
    fn arns_are_ours_foreign_or_malformed() {
        let account = Account {
            region: "us-west-2".into(),
            id: "123456789012".into(),
        };
        let id = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let logging = LoggingId::parse("TC6fLHr7ycLt").expect("an id");
        let parse = |arn: &str| account.parse::<RoomId>(arn);
        assert_eq!(parse(&account.arn(id)), Ok(Some(id)));
        for foreign in [
            "arn:aws:ivschat:us-east-1:123456789012:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:999999999999:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:room/short",
        ] {
            assert_eq!(parse(foreign), Ok(None), "{foreign}");
            assert_eq!(account.parse_taggable(foreign), Ok(None), "{foreign}");
        }
        for malformed in [
            "",
            "TC6fLHr7ycLt",
            "arn:aws:ivs:us-west-2:123456789012:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:12345678901x:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:US:123456789012:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:room/TC6f/ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:stage/TC6fLHr7ycLt",
        ] {
            assert!(parse(malformed).is_err(), "{malformed}");
            assert!(account.parse_taggable(malformed).is_err(), "{malformed}");
        }
        assert!(parse(&account.arn(logging)).is_err(), "not a room's");
        assert_eq!(
            account.parse_taggable(&account.arn(logging)),
            Ok(Some(Taggable::Logging(logging)))
        );
        assert_eq!(
            account.parse_taggable(&account.arn(id)),
            Ok(Some(Taggable::Room(id)))
        );
    }
}
