//! The keys of session tickets: one seals, it and the one before open. Time and randomness are arguments.
//!
//! A ticket is the key's name, a nonce, and the session sealed with AES-256-GCM, the name bound to it. It has all that the
//! server needs, so that nothing is kept for clients who are away.
//!
//! Keys are drawn, and forgotten after [`TICKET_KEY_PERIOD`] twice: from then on nobody can open a ticket that was
//! recorded, whatever they get hold of. Time is the monotonic clock's, which nobody sets.

use std::io;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::{TICKET_KEY_PERIOD, TICKET_SESSION_BYTES_MAX};
use uproar_proto::tagged::{Fault, Fields, Tagged};
use zeroize::Zeroizing;

pub(super) const NONCE_BYTES: usize = 12;
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// What a key is drawn as: its name, then its secret.
pub(super) const DRAWN_BYTES: usize = NAME_BYTES + SECRET_BYTES;
const TAG_BYTES: usize = 16;
/// Of a ticket around its session.
const FRAME_BYTES: usize = NAME_BYTES + NONCE_BYTES + TAG_BYTES;

// The fields of keys on their way to another process.
const CURRENT: u32 = 1;
const PREVIOUS: u32 = 2;
/// Time until the rotation, in nanoseconds.
const LEFT: u32 = 3;

/// Random bytes of one key.
pub(super) type Drawn = Zeroizing<[u8; DRAWN_BYTES]>;

/// One key. Its nonces are drawn as well: after 2^32 tickets, far more than are sealed in a period, one has come twice with
/// a probability of 2^-33.
struct TicketKey {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
    // As it was drawn, for another process.
    drawn: Drawn,
}

impl TicketKey {
    fn of(drawn: Drawn) -> Self {
        let (name, secret) = drawn.split_at(NAME_BYTES);
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("32 bytes");
        Self {
            name: name.try_into().expect("16 bytes"),
            key: LessSafeKey::new(key),
            drawn,
        }
    }
}

/// The keys at one time.
#[derive(Clone)]
pub(super) struct TicketKeys {
    current: Arc<TicketKey>,
    previous: Option<Arc<TicketKey>>,
    // When another one becomes the current one.
    rotates: Tick,
}

impl TicketKeys {
    /// The first key.
    pub(super) fn new(drawn: Drawn, now: Tick) -> Self {
        Self {
            current: Arc::new(TicketKey::of(drawn)),
            previous: None,
            rotates: now.after(TICKET_KEY_PERIOD),
        }
    }

    /// The keys that follow, if it is time: the current one becomes the previous one, which is forgotten. If the time of
    /// that has passed as well, both are.
    ///
    /// # Errors
    ///
    /// Those of `draw`: the next call tries again.
    pub(super) fn rotated(
        &self,
        now: Tick,
        draw: impl FnOnce() -> io::Result<Drawn>,
    ) -> io::Result<Option<Self>> {
        if now < self.rotates {
            return Ok(None);
        }
        let is_late = now >= self.rotates.after(TICKET_KEY_PERIOD);
        Ok(Some(Self {
            previous: (!is_late).then(|| Arc::clone(&self.current)),
            ..Self::new(draw()?, now)
        }))
    }

    /// Makes a ticket; `None` if the session is longer than any of ours. Each `nonce` is used once.
    pub(super) fn seal(&self, nonce: [u8; NONCE_BYTES], session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > TICKET_SESSION_BYTES_MAX {
            return None;
        }
        let TicketKey { name, key, .. } = &*self.current;
        let mut ticket = Vec::with_capacity(FRAME_BYTES + session.len());
        ticket.extend_from_slice(name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(session);
        let sealed = &mut ticket[NAME_BYTES + NONCE_BYTES..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(name), sealed);
        ticket.extend_from_slice(tag.ok()?.as_ref());
        Some(ticket)
    }

    /// The session in a ticket of one of these keys; `None` for everything else that a client may send.
    pub(super) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > FRAME_BYTES + TICKET_SESSION_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let mut keys = [Some(&self.current), self.previous.as_ref()].into_iter();
        // Names are no secrets.
        let found = keys.find_map(|key| key.filter(|key| key.name == *name))?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut session = sealed.to_vec();
        let opened = found
            .key
            .open_in_place(nonce, Aad::from(name), &mut session);
        let length = opened.ok()?.len();
        session.truncate(length);
        Some(session)
    }

    /// What another process needs to open these tickets, and to go on as this one would. It has the secrets.
    pub(super) fn carry(&self, now: Tick) -> Zeroizing<Vec<u8>> {
        let mut fields = Fields::default();
        fields.bytes(CURRENT, &self.current.drawn[..]);
        if let Some(previous) = &self.previous {
            fields.bytes(PREVIOUS, &previous.drawn[..]);
        }
        let left = self.rotates.since(now);
        fields.number(LEFT, u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        fields.into_bytes().into()
    }

    /// Goes on where another process was.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no keys have.
    pub(super) fn inherit(fields: &[u8], now: Tick) -> Result<Self, Fault> {
        let fields = Tagged::parse(fields)?;
        let key = |number, value: &[u8]| {
            let drawn = <[u8; DRAWN_BYTES]>::try_from(value).map_err(|_| Fault::Value(number))?;
            Ok(Arc::new(TicketKey::of(drawn.into())))
        };
        let left = std::time::Duration::from_nanos(fields.need_number(LEFT)?);
        let previous = fields.get(PREVIOUS).map(|value| key(PREVIOUS, value));
        Ok(Self {
            current: key(CURRENT, fields.need(CURRENT)?)?,
            previous: previous.transpose()?,
            rotates: now.after(left.min(TICKET_KEY_PERIOD)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: &[u8] = b"a session";

    fn drawn(byte: u8) -> Drawn {
        [byte; DRAWN_BYTES].into()
    }

    fn keys() -> TicketKeys {
        TicketKeys::new(drawn(1), at(0))
    }

    /// After this many periods.
    fn at(periods: u32) -> Tick {
        Tick::from_nanos(7).after(TICKET_KEY_PERIOD * periods)
    }

    fn rotated(keys: &TicketKeys, now: Tick, byte: u8) -> TicketKeys {
        let next = keys.rotated(now, || Ok(drawn(byte)));
        next.expect("drawn").expect("it is time")
    }

    /// Goal: a ticket opens in the period of its key and in the one behind it, then no more.
    #[test]
    fn a_ticket_lives_for_two_periods_of_its_key() {
        let keys = keys();
        let ticket = keys.seal([9; 12], SESSION).expect("short enough");
        let early = Tick::from_nanos(at(1).nanos() - 1);
        let same = keys.rotated(early, || panic!("nothing is drawn before its time"));
        assert!(same.expect("nothing failed").is_none());
        let second = rotated(&keys, at(1), 2);
        assert_eq!(second.open(&ticket).as_deref(), Some(SESSION));
        let next = second.seal([9; 12], SESSION).expect("short enough");
        assert_ne!(next, ticket);
        assert_eq!(keys.open(&next), None, "of a key to come");
        let third = rotated(&second, at(2), 3);
        assert_eq!(third.open(&ticket), None);
        assert_eq!(third.open(&next).as_deref(), Some(SESSION));
    }

    /// Goal: after a time in which nobody looked, as of a machine that was stopped, no key is used beyond its two periods;
    /// a clock that goes back changes nothing, and when no key can be drawn the old ones stay.
    #[test]
    fn keys_do_not_outlive_their_time() {
        let keys = keys();
        let ticket = keys.seal([9; 12], SESSION).expect("short enough");
        let last = Tick::from_nanos(at(2).nanos() - 1);
        assert!(rotated(&keys, last, 2).open(&ticket).is_some());
        assert!(rotated(&keys, at(2), 2).open(&ticket).is_none());
        assert!(rotated(&keys, at(1000), 2).open(&ticket).is_none());
        let second = rotated(&keys, at(1), 2);
        let back = second.rotated(Tick::from_nanos(0), || panic!("it is not time"));
        assert!(back.expect("nothing failed").is_none());
        let none = second.rotated(at(2), || Err(io::Error::other("no randomness")));
        assert!(none.is_err() && second.open(&ticket).is_some());
    }

    /// Goal: the next process opens what this one has sealed, and rotates when this one would have; nonsense is refused.
    #[test]
    fn keys_cross_to_another_process() {
        let first = keys();
        let old = first.seal([9; 12], SESSION).expect("short enough");
        let keys = rotated(&first, at(1), 2);
        let ticket = keys.seal([9; 12], SESSION).expect("short enough");
        let half = at(1).after(TICKET_KEY_PERIOD / 2);
        // Its ticks count from elsewhere.
        let now = Tick::from_nanos(1);
        let carried = keys.carry(half);
        let inherited = TicketKeys::inherit(&carried, now).expect("whole");
        for ticket in [&old, &ticket] {
            assert_eq!(inherited.open(ticket).as_deref(), Some(SESSION));
        }
        let due = now.after(TICKET_KEY_PERIOD / 2);
        let early = inherited.rotated(Tick::from_nanos(due.nanos() - 1), || panic!("too early"));
        assert!(early.expect("nothing failed").is_none());
        let next = rotated(&inherited, due, 3);
        assert_eq!(next.open(&old), None);
        assert_eq!(next.open(&ticket).as_deref(), Some(SESSION));
        for end in 0..carried.len() {
            assert!(TicketKeys::inherit(&carried[..end], now).is_err(), "{end}");
        }
        let mut long = Fields::default();
        long.bytes(CURRENT, &drawn(1)[..]);
        long.number(LEFT, u64::MAX);
        let long = TicketKeys::inherit(&long.into_bytes(), now).expect("whole");
        assert!(long.rotates <= now.after(TICKET_KEY_PERIOD));
    }

    /// Goal: a session that is too long gets no ticket, and a ticket that is too long is not looked at.
    #[test]
    fn what_is_too_long_is_refused() {
        let keys = keys();
        let longest = vec![7; TICKET_SESSION_BYTES_MAX];
        let ticket = keys.seal([9; 12], &longest).expect("just short enough");
        assert_eq!(keys.open(&ticket), Some(longest));
        assert_eq!(keys.seal([9; 12], &[7; TICKET_SESSION_BYTES_MAX + 1]), None);
        let mut long = ticket;
        long.push(0);
        assert_eq!(keys.open(&long), None);
    }

    proptest! {
        /// Goal: only what a key of ours has sealed is opened: nothing changed, cut, of another server with the same name,
        /// or made up.
        #[test]
        fn only_our_tickets_open(
            session in prop::collection::vec(any::<u8>(), 0..300),
            nonce in any::<[u8; NONCE_BYTES]>(),
            at in any::<prop::sample::Index>(),
            flip in 1..=255u8,
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let keys = keys();
            let ticket = keys.seal(nonce, &session).expect("short enough");
            prop_assert_eq!(keys.open(&ticket), Some(session));
            let mut changed = ticket.clone();
            changed[at.index(ticket.len())] ^= flip;
            prop_assert_eq!(keys.open(&changed), None);
            prop_assert_eq!(keys.open(&ticket[..at.index(ticket.len())]), None);
            let mut foreign = drawn(1);
            foreign[DRAWN_BYTES - 1] ^= flip;
            let foreign = TicketKeys::new(foreign, Tick::from_nanos(0));
            prop_assert_eq!(foreign.open(&ticket), None);
            prop_assert_eq!(keys.open(&noise), None);
            let named = [&keys.current.name[..], &noise].concat();
            prop_assert_eq!(keys.open(&named), None);
        }
    }
}
