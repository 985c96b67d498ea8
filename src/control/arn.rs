//! ARNs of this server's resources.

use super::fault::Fault;
use crate::base::id::RoomId;

/// Longest ARN the API takes, in characters.
const ARN_CHARS_MAX: usize = 128;

/// Region and account: every ARN of this server has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// As in `us-west-2`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Realm {
    /// A room's ARN.
    pub fn room(&self, room: RoomId) -> String {
        format!(
            "arn:aws:ivschat:{}:{}:room/{room}",
            self.region, self.account
        )
    }

    /// The room an ARN names. Well-formed ARNs of other regions, accounts and lengths of id name
    /// rooms that do not exist, and are not told apart from deleted ones.
    ///
    /// # Errors
    ///
    /// `ValidationException` for a malformed ARN.
    pub fn parse_room(&self, field: &str, arn: &str) -> Result<Option<RoomId>, Fault> {
        let malformed = || {
            Fault::field(
                field,
                "must be a room ARN: arn:aws:ivschat:<region>:<account>:room/<id>",
            )
        };
        if arn.is_empty() || arn.chars().count() > ARN_CHARS_MAX {
            return Err(malformed());
        }
        let rest = arn.strip_prefix("arn:aws:ivschat:").ok_or_else(malformed)?;
        let mut parts = rest.splitn(3, ':');
        let (Some(region), Some(account), Some(resource)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let id = resource.strip_prefix("room/").ok_or_else(malformed)?;
        let region_ok = !region.is_empty()
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let account_ok = !account.is_empty() && account.bytes().all(|b| b.is_ascii_digit());
        let id_ok = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !(region_ok && account_ok && id_ok) {
            return Err(malformed());
        }
        let ours = region == self.region && account == self.account;
        Ok(ours.then(|| RoomId::parse(id)).flatten())
    }
}

/// The last part of an ARN: what `resourceId` of an exception carries.
pub fn resource_id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: our rooms are found, foreign ones do not exist, anything else is malformed.
    #[test]
    fn arns_are_ours_foreign_or_malformed() {
        let realm = Realm {
            region: "us-west-2".into(),
            account: "123456789012".into(),
        };
        let id = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        assert_eq!(realm.parse_room("x", &realm.room(id)), Ok(Some(id)));
        for foreign in [
            "arn:aws:ivschat:us-east-1:123456789012:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:999999999999:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:room/short",
        ] {
            assert_eq!(realm.parse_room("x", foreign), Ok(None), "{foreign}");
        }
        for malformed in [
            "",
            "TC6fLHr7ycLt",
            "arn:aws:ivs:us-west-2:123456789012:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:12345678901x:room/TC6fLHr7ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:room/TC6f/ycLt",
            "arn:aws:ivschat:us-west-2:123456789012:stage/TC6fLHr7ycLt",
        ] {
            assert!(realm.parse_room("x", malformed).is_err(), "{malformed}");
        }
    }
}
