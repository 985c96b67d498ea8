//! Makes tokens, and alone decides when they stop opening sessions.

use std::time::Duration;

use super::{Capabilities, Claims, Keyring, NONCE_BYTES};
use crate::base::clock::UnixTime;
use crate::base::id::RoomId;

/// The content of a token to make.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The room it opens.
    pub room: RoomId,
    /// The user's id.
    pub user_id: String,
    /// Attributes in each of the user's messages.
    pub attributes: Vec<(String, String)>,
    /// The user's capabilities.
    pub capabilities: Capabilities,
    /// The duration of its session, counted from now, not from the session's start.
    pub session: Duration,
    /// How long the token opens a session (`tokens.life_minutes`); at most the session's duration.
    pub life: Duration,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The token's text.
    pub token: String,
    /// When it stops opening a session.
    pub expires: UnixTime,
    /// When its session ends.
    pub session_end: UnixTime,
}

/// Makes a token. Times are whole seconds, as the service has them. `nonce` is random, see
/// [`Keyring::seal`].
pub fn mint(
    keyring: &Keyring,
    request: TokenRequest,
    now: UnixTime,
    nonce: [u8; NONCE_BYTES],
) -> Minted {
    let now = UnixTime::from_secs(now.secs());
    let session_end = now.after(request.session);
    let expires = now.after(request.life).min(session_end);
    let claims = Claims {
        room: request.room,
        user_id: request.user_id,
        attributes: request.attributes,
        capabilities: request.capabilities,
        expires,
        session_end,
    };
    Minted {
        token: keyring.seal(&claims, nonce),
        expires,
        session_end,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KEY_BYTES, Key};
    use super::*;

    /// Goal: a token opens a session for its life, or its session's length if that is shorter, in
    /// whole seconds.
    #[test]
    fn a_token_lives_as_long_as_it_is_told_and_no_longer_than_its_session() {
        let mut keyring = Keyring::default();
        let now = UnixTime::from_nanos(1_800_000_000_999_999_999);
        keyring.push(Key::new([7; KEY_BYTES], now));
        let minutes = Duration::from_mins;
        for (life, session, expires_minutes) in [(60, 180, 60), (5, 60, 5), (60, 1, 1)] {
            let request = TokenRequest {
                room: RoomId::from_random(1),
                user_id: "u".to_owned(),
                attributes: Vec::new(),
                capabilities: Capabilities::default(),
                session: minutes(session),
                life: minutes(life),
            };
            let minted = mint(&keyring, request, now, [1; NONCE_BYTES]);
            let start = UnixTime::from_secs(1_800_000_000);
            assert_eq!(minted.expires, start.after(minutes(expires_minutes)));
            assert_eq!(minted.session_end, start.after(minutes(session)));
            let mut scratch = Vec::new();
            let opened = keyring
                .open(&minted.token, &mut scratch, minted.expires)
                .expect("just in time");
            assert_eq!(
                (opened.expires(), opened.session_end()),
                (minted.expires, minted.session_end)
            );
            let late = minted.expires.after(Duration::from_secs(1));
            assert!(keyring.open(&minted.token, &mut scratch, late).is_err());
        }
    }
}
