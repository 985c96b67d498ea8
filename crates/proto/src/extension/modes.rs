//! Chat modes: who may say what in a room, and when again. Judged once a message, at the room's home.

use std::borrow::Cow;
use std::time::Duration;

use super::Speaker;
use super::recent::{Note, Recent};
use super::settings::{Settings, Talk, UniqueScope};
use super::speech::{Key, is_emotes};
use super::traits::role_in;
use crate::base::clock::{Now, Tick};
use crate::chat::ErrorCode;

/// A message that somebody wants to say.
#[derive(Debug, Clone, Copy)]
pub struct Speech<'a> {
    /// Its text.
    pub content: &'a str,
    /// `Sender` as JSON.
    pub sender_json: &'a str,
    /// What else is known of the sender.
    pub speaker: Speaker,
}

/// Why a mode refuses a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeFault {
    /// Nobody but moderators may write.
    Closed,
    /// These roles may write, as the text lists them.
    Roles(String),
    /// The user is not known for long enough; the seconds that are left.
    Age(u64),
    /// The user said something just now; the seconds that are left.
    Slow(u64),
    /// It was said a short while ago.
    Repeated,
    /// It has words, in a room of emotes.
    Emotes,
}

/// The mode that refused a message: the label `reason` of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `uproar:slow`.
    Slow,
    /// `uproar:unique`.
    Unique,
    /// `uproar:talk`.
    Talk,
    /// `uproar:age`.
    Age,
    /// `uproar:emotes`.
    Emotes,
    /// A time-out, or a ban.
    Timeout,
}

/// What is to be remembered of a message once it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judged {
    /// Its sender, in slow mode.
    pub sender: Option<Key>,
    /// Its text, where texts are unique.
    pub text: Option<Key>,
}

/// What a room with modes remembers of accepted messages.
#[derive(Debug, Default)]
pub struct Modes {
    // Senders, in slow mode.
    senders: Recent,
    // Texts, where they are unique.
    texts: Recent,
    // Whose texts these are.
    scope: Option<UniqueScope>,
}

const CLOSED: &str = "chat is closed";
const ROLES: &str = "chat is open to: ";
const AGE: [&str; 2] = ["you may write in ", " s"];
const SLOW: [&str; 2] = ["slow mode: wait ", " s"];
const TIMED_OUT: [&str; 2] = ["timed out: ", " s left"];
const BANNED: &str = "banned";
const REPEATED: &str = "repeated message";
const EMOTES: &str = "only emotes";

impl ModeFault {
    /// Code and text of the ERROR.
    pub fn refusal(&self) -> (ErrorCode, Cow<'static, str>) {
        let timed =
            |[before, after]: [&str; 2], seconds| format!("{before}{seconds}{after}").into();
        match self {
            Self::Closed => (ErrorCode::Forbidden, CLOSED.into()),
            Self::Roles(roles) => (ErrorCode::Forbidden, format!("{ROLES}{roles}").into()),
            Self::Age(seconds) => (ErrorCode::Forbidden, timed(AGE, seconds)),
            Self::Slow(seconds) => (ErrorCode::TooManyRequests, timed(SLOW, seconds)),
            Self::Repeated => (ErrorCode::NotAcceptable, REPEATED.into()),
            Self::Emotes => (ErrorCode::NotAcceptable, EMOTES.into()),
        }
    }
}

/// Code and text for who is timed out for these seconds more, or for ever.
pub fn timed_out(seconds: Option<u64>) -> (ErrorCode, Cow<'static, str>) {
    let text = match seconds {
        Some(seconds) => format!("{}{seconds}{}", TIMED_OUT[0], TIMED_OUT[1]).into(),
        None => BANNED.into(),
    };
    (ErrorCode::Forbidden, text)
}

/// The mode whose refusal has this code and text, wherever it was decided, and the seconds to wait if it has some: what
/// applications read, this server's other shards and nodes read too.
pub fn read_refusal(code: ErrorCode, text: &str) -> Option<(Mode, Option<u64>)> {
    let seconds = |[before, after]: [&str; 2]| -> Option<u64> {
        text.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
    };
    match code {
        ErrorCode::TooManyRequests => seconds(SLOW).map(|wait| (Mode::Slow, Some(wait))),
        ErrorCode::Forbidden if text == CLOSED || text.starts_with(ROLES) => {
            Some((Mode::Talk, None))
        }
        ErrorCode::Forbidden if text == BANNED => Some((Mode::Timeout, None)),
        ErrorCode::Forbidden => seconds(AGE)
            .map(|wait| (Mode::Age, Some(wait)))
            .or_else(|| Some((Mode::Timeout, Some(seconds(TIMED_OUT)?)))),
        ErrorCode::NotAcceptable if text == REPEATED => Some((Mode::Unique, None)),
        ErrorCode::NotAcceptable if text == EMOTES => Some((Mode::Emotes, None)),
        ErrorCode::BadRequest
        | ErrorCode::Unauthorized
        | ErrorCode::NotFound
        | ErrorCode::NotAcceptable
        | ErrorCode::PayloadTooLarge
        | ErrorCode::Internal => None,
    }
}

impl Modes {
    /// Judges a message by what comes before the room's rate; what is to be remembered of it.
    ///
    /// # Errors
    ///
    /// The first mode that refuses it.
    pub fn judge(
        &self,
        settings: &Settings,
        speech: &Speech<'_>,
        now: Now,
    ) -> Result<Judged, ModeFault> {
        let mut judged = Judged::default();
        let &Speech {
            content,
            sender_json,
            speaker,
        } = speech;
        if speaker.is_exempt() {
            return Ok(judged);
        }
        may_talk(&settings.talk, sender_json)?;
        if let Some(age) = settings.age {
            is_known_for(age, speaker.since, now)?;
        }
        if let Some(slow) = settings.slow {
            let key = Key::of_sender(sender_json);
            if let Some(wait) = self.senders.wait(key, seconds(slow), now.tick) {
                return Err(ModeFault::Slow(whole_seconds(wait)));
            }
            judged.sender = Some(key);
        }
        if let Some(unique) = settings.unique {
            let of_all = (unique.scope == UniqueScope::Room).then(|| Key::of_text(content));
            // What nobody else has seen keeps nobody else from saying it.
            let is_own = of_all.is_none() || speaker.is_shadowed;
            let own = is_own.then(|| Key::of_text_by(sender_json, content));
            let age = seconds(unique.seconds);
            let mut keys = [of_all, own].into_iter().flatten();
            if keys.any(|key| self.texts.wait(key, age, now.tick).is_some()) {
                return Err(ModeFault::Repeated);
            }
            judged.text = own.or(of_all);
        }
        Ok(judged)
    }

    /// Remembers an accepted message.
    pub fn note(&mut self, judged: Judged, now: Tick) {
        if let Some(key) = judged.sender {
            self.senders.note(key, now);
        }
        if let Some(key) = judged.text {
            self.texts.note(key, now);
        }
    }

    /// Follows changed settings: what a mode remembers that is off is forgotten. Another time counts from the same instants.
    pub fn follow(&mut self, settings: &Settings) {
        if settings.slow.is_none() {
            self.senders = Recent::default();
        }
        let scope = settings.unique.map(|unique| unique.scope);
        if self.scope != scope {
            self.texts = Recent::default();
            self.scope = scope;
        }
    }

    /// Forgets what does not count any more under these settings.
    pub fn expire(&mut self, settings: &Settings, now: Tick) {
        let age = |most: Option<u32>| seconds(most.unwrap_or(0));
        self.senders.expire(age(settings.slow), now);
        self.texts
            .expire(age(settings.unique.map(|unique| unique.seconds)), now);
    }

    /// Forgets the oldest sender or text, if there is one.
    pub fn forget_oldest(&mut self) {
        let _forgotten = self.senders.forget_oldest() || self.texts.forget_oldest();
    }

    /// Number of notes.
    pub fn len(&self) -> usize {
        self.senders.len() + self.texts.len()
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes of senders and of texts, for another process.
    pub fn notes(&self) -> [&Recent; 2] {
        [&self.senders, &self.texts]
    }

    /// Takes over notes of another process, in order; it had the same settings.
    pub fn inherit(&mut self, [senders, texts]: [impl Iterator<Item = Note>; 2]) {
        senders.for_each(|(noted, key)| self.senders.note(key, noted));
        texts.for_each(|(noted, key)| self.texts.note(key, noted));
    }
}

/// Judges a message by the mode that comes behind the room's rate.
///
/// # Errors
///
/// [`ModeFault::Emotes`].
pub fn judge_text(settings: &Settings, speech: &Speech<'_>) -> Result<(), ModeFault> {
    if !settings.emotes_only || speech.speaker.is_exempt() || is_emotes(speech.content) {
        Ok(())
    } else {
        Err(ModeFault::Emotes)
    }
}

fn may_talk(talk: &Talk, sender_json: &str) -> Result<(), ModeFault> {
    match talk {
        Talk::All => Ok(()),
        Talk::Nobody => Err(ModeFault::Closed),
        Talk::Roles(roles) if role_in(sender_json).is_some_and(|role| roles.contains(role)) => {
            Ok(())
        }
        Talk::Roles(roles) => Err(ModeFault::Roles(roles.joined(", "))),
    }
}

/// A user of whom nothing is known counts as one who is known since now.
fn is_known_for(age: u32, since: u64, now: Now) -> Result<(), ModeFault> {
    let now = now.unix.secs();
    let since = if since == 0 { now } else { since };
    match since.saturating_add(age.into()).saturating_sub(now) {
        0 => Ok(()),
        wait => Err(ModeFault::Age(wait)),
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// Rounds up: who waits so long may write.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
