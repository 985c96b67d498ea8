//! What a token's `uproar:` attributes tell the server of its user.

use super::settings::is_role;
use super::{PREFIX, is_ours};
use crate::base::id::FrameId;
use crate::tagged::{Fault, Fields, Tagged};
use crate::token::TokenId;

/// The one attribute of ours that stays in `Sender`: a badge.
pub const ROLE: &str = "uproar:role";

/// Roles that chat modes do not hold back.
const EXEMPT: [&str; 3] = ["host", "mod", "bot"];

/// What a token tells of its user beside IVS Chat's claims; most tokens tell nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traits {
    /// The user's role, if it has one.
    pub role: Option<Box<str>>,
    /// Whether the user is not counted as a viewer.
    pub is_hidden: bool,
    /// Since when the user is known, in seconds since 1970.
    pub since: Option<u64>,
    /// The newest message that the user has.
    pub after: Option<FrameId>,
    /// Whether there is, or was, a ban of the user: requests are looked at. No token tells it, no process another one.
    pub is_held: bool,
    /// The token itself, where one may open further connections: they close this one.
    pub token: Option<TokenId>,
}

impl Traits {
    /// Reads a token's attributes; `None` if none of them is ours and valid.
    pub fn of<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Box<Self>> {
        let mut traits = None;
        for (key, value) in attributes {
            if is_ours(key) {
                let mut changed: Box<Self> = traits.clone().unwrap_or_default();
                if changed.take(key, value).is_ok() {
                    traits = Some(changed);
                }
            }
        }
        traits
    }

    /// Takes one attribute; one that is not ours changes nothing.
    ///
    /// # Errors
    ///
    /// What its value must be, or that there is no such attribute.
    pub fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let Some(name) = key.strip_prefix(PREFIX) else {
            return Ok(());
        };
        match name {
            "role" if is_role(value) => self.role = Some(value.into()),
            "role" => return Err("must be one word of at most 32 letters, digits, - and _"),
            "hidden" if value == "1" => self.is_hidden = true,
            "hidden" => return Err("must be 1"),
            "since" => {
                let is_digits = value.bytes().all(|b| b.is_ascii_digit());
                let seconds = value.parse().ok().filter(|_| is_digits);
                self.since = Some(seconds.ok_or("must be a number of seconds since 1970")?);
            }
            "after" => {
                let id = FrameId::parse(value);
                self.after = Some(id.ok_or("must be the id of a message")?);
            }
            "feed" => return Err("is reserved for a later version: everybody gets everything"),
            _ => {
                return Err(
                    "is not known; a token has uproar:role, uproar:hidden, uproar:since, uproar:after",
                );
            }
        }
        Ok(())
    }

    /// Whether chat modes do not hold the user back.
    pub fn is_exempt(&self) -> bool {
        let role = self.role.as_deref();
        role.is_some_and(|role| EXEMPT.contains(&role))
    }

    /// Writes them for another process.
    pub fn carry(&self, fields: &mut Fields) {
        if let Some(role) = &self.role {
            fields.bytes(ROLE_FIELD, role.as_bytes());
        }
        if self.is_hidden {
            fields.bytes(HIDDEN, &[]);
        }
        if let Some(since) = self.since {
            fields.number(SINCE, since);
        }
        if let Some(after) = self.after {
            fields.bytes(AFTER, after.as_bytes());
        }
        if let Some(token) = &self.token {
            fields.bytes(TOKEN, token.as_bytes());
        }
    }

    /// Reads what another process wrote.
    ///
    /// # Errors
    ///
    /// A value that no user has.
    pub fn inherit(fields: Tagged<'_>) -> Result<Self, Fault> {
        let role = match fields.get(ROLE_FIELD) {
            Some(_) => Some(fields.need_text(ROLE_FIELD)?),
            None => None,
        };
        if role.is_some_and(|role| !is_role(role)) {
            return Err(Fault::Value(ROLE_FIELD));
        }
        let after = fields.get(AFTER).map(|bytes| {
            let id = bytes.try_into().ok().and_then(FrameId::from_bytes);
            id.ok_or(Fault::Value(AFTER))
        });
        Ok(Self {
            role: role.map(Box::from),
            is_hidden: fields.get(HIDDEN).is_some(),
            since: fields.number(SINCE)?,
            after: after.transpose()?,
            is_held: false,
            token: fields
                .get(TOKEN)
                .map(|bytes| {
                    let id = bytes.try_into().map_err(|_| Fault::Value(TOKEN))?;
                    Ok(TokenId::from_bytes(id))
                })
                .transpose()?,
        })
    }
}

// The fields that another process reads.
const ROLE_FIELD: u32 = 1;
const HIDDEN: u32 = 2;
const SINCE: u32 = 3;
const AFTER: u32 = 4;
// 5 was `uproar:feed`.
const TOKEN: u32 = 6;

/// Whether an attribute of a token stays in `Sender`, where everybody sees it.
pub fn is_shown(key: &str) -> bool {
    !is_ours(key) || key == ROLE
}

/// The role in a `Sender`'s JSON, as the server encodes it; `None` without one.
///
/// The key with its quotes is found nowhere else: within a JSON string a quote has a backslash before it.
pub fn role_in(sender_json: &str) -> Option<&str> {
    let (_, rest) = sender_json.split_once("\"uproar:role\":\"")?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::encode::sender_json;

    /// Goal: valid attributes are read, others change nothing.
    #[test]
    fn attributes_become_traits() {
        assert_eq!(Traits::of([("name", "bob"), ("uproar:what", "1")]), None);
        let traits = Traits::of([
            ("name", "bob"),
            ("uproar:role", "vip"),
            ("uproar:hidden", "1"),
            ("uproar:since", "1700000000"),
            ("uproar:after", "M2YcHkgffEvU"),
            ("uproar:feed", "full"),
        ]);
        let traits = traits.expect("four of ours");
        assert_eq!(traits.role.as_deref(), Some("vip"));
        assert!(traits.is_hidden && !traits.is_exempt());
        assert_eq!(traits.since, Some(1_700_000_000));
        assert!(traits.after.is_some());
        for (key, value) in [
            ("uproar:role", "two words"),
            ("uproar:role", ""),
            ("uproar:hidden", "yes"),
            ("uproar:since", "+1"),
            ("uproar:after", "short"),
            ("uproar:feed", "full"),
            ("uproar:other", "1"),
        ] {
            assert!(Traits::default().take(key, value).is_err(), "{key}={value}");
            assert_eq!(Traits::of([(key, value)]), None, "{key}={value}");
        }
    }

    /// Goal: nobody makes himself a role with a name or a value: only the attribute is found. Oracle: serde_json.
    #[test]
    fn a_role_is_found_in_its_place_alone() {
        let tricky = r#"x","uproar:role":"host"#;
        for attributes in [
            vec![("name", tricky)],
            vec![(tricky, "x")],
            vec![("name", tricky), ("uproar:role", "vip")],
        ] {
            let json = sender_json(tricky, attributes);
            let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(role_in(&json), parsed["Attributes"]["uproar:role"].as_str());
        }
    }

    proptest! {
        /// Goal: another process reads what was written, whatever a user has.
        #[test]
        fn traits_cross_to_another_process(
            role in proptest::option::of("[a-zA-Z0-9_-]{1,32}"), is_hidden: bool, since: Option<u64>,
            after in proptest::option::of("[a-zA-Z0-9]{12}"),
            token: Option<[u8; 16]>,
        ) {
            let traits = Traits {
                role: role.map(String::into_boxed_str),
                is_hidden,
                since,
                after: after.and_then(|id| FrameId::parse(&id)),
                is_held: false,
                token: token.map(TokenId::from_bytes),
            };
            let mut fields = Fields::default();
            traits.carry(&mut fields);
            let bytes = fields.into_bytes();
            let read = Traits::inherit(Tagged::parse(&bytes).expect("fields"));
            prop_assert_eq!(read, Ok(traits));
        }

        /// Goal: no user id or attribute of a user looks like a role that the token does not have.
        #[test]
        fn roles_are_not_forged(user in "[\\x00-\\x7f]{0,40}|.*uproar:role.*", key in "[a-z\":\\\\,]{0,24}", value in "[a-z\":\\\\,]{0,40}") {
            prop_assume!(key != ROLE);
            let json = sender_json(&user, [(&*key, &*value)]);
            prop_assert_eq!(role_in(&json), None);
        }
    }
}
