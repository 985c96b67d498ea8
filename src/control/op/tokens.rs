//! CreateChatToken.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::{find_or_wait, random_bytes};
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, CAPABILITY};
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use uproar_proto::base::limits::{SESSION_MINUTES_DEFAULT, SESSION_MINUTES_MAX, USER_ID_CHARS_MAX};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::{Traits, is_ours};
use uproar_proto::token::{Capabilities, Capability, TokenRequest, mint};

/// Who a token is for, and what it permits.
pub(in crate::control) struct Wanted {
    pub(in crate::control) user_id: String,
    pub(in crate::control) attributes: BTreeMap<String, String>,
    pub(in crate::control) capabilities: Capabilities,
}

impl Wanted {
    /// In the order of the API's own refusals, with what `minutes` reads in its place.
    fn read(
        input: &mut Input,
        minutes: impl FnOnce(&mut Input) -> Option<u32>,
    ) -> (Self, Option<u32>) {
        let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
        let capabilities = input
            .list("capabilities", usize::MAX, CAPABILITY)
            .unwrap_or_default();
        let minutes = minutes(input);
        let wanted = Self {
            user_id,
            attributes: input.attributes("attributes").unwrap_or_default(),
            capabilities: capabilities
                .iter()
                .filter_map(|name| Capability::parse(name))
                .collect(),
        };
        (wanted, minutes)
    }

    /// Checks the attributes that are the server's, not everybody's.
    fn check_traits(&self, input: &mut Input, is_granted: bool) {
        let mut traits = Traits::default();
        for (key, value) in &self.attributes {
            if is_ours(key) && !is_granted {
                let must = "is the server's: the access key must be granted TokenAttributes";
                input.fault(&format!("attributes.{key}"), must);
            } else if let Err(must) = traits.take(key, value) {
                input.fault(&format!("attributes.{key}"), must);
            }
        }
    }

    /// Reads `userId`, `attributes` and `capabilities`, and nothing else, as CreateChatToken does.
    ///
    /// # Errors
    ///
    /// As that operation's.
    pub(in crate::control) fn parse(input: &Value) -> Result<Self, Fault> {
        let mut input = Input::parse(input.to_string().as_bytes())?;
        let (wanted, _) = Self::read(&mut input, |_| None);
        input.finish()?;
        Ok(wanted)
    }
}

pub(super) async fn create_chat_token(
    control: &Control,
    call: Authorized,
) -> Result<Answer, Fault> {
    let allows_ours = call.allows_token_attributes;
    let (mut input, arn) = call.into_resource();
    let (wanted, minutes) = Wanted::read(&mut input, |input| {
        input.integer("sessionDurationInMinutes", 1..=SESSION_MINUTES_MAX)
    });
    if control.registry.has_extensions() {
        wanted.check_traits(&mut input, allows_ours);
    }
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let tick = control.clock.now().tick;
    let held = control.gateway.bans().of_user(room, &wanted.user_id, tick);
    if held.is_some_and(|held| held.mode == BanMode::Ban) {
        return Err(Fault::Banned);
    }
    let minutes = u64::from(minutes.unwrap_or(SESSION_MINUTES_DEFAULT));
    let request = TokenRequest {
        room,
        user_id: wanted.user_id,
        attributes: wanted.attributes.into_iter().collect(),
        capabilities: wanted.capabilities,
        session: Duration::from_secs(60 * minutes),
        life: control.token_life.get(),
    };
    let nonce = random_bytes()?;
    let now = control.clock.now().unix;
    let minted = mint(&control.keyring.load(), request, now, nonce);
    Ok((
        200,
        Some(json!({
            "token": minted.token,
            "tokenExpirationTime": minted.expires.rfc3339(),
            "sessionExpirationTime": minted.session_end.rfc3339(),
        })),
    ))
}
