//! Reactions of a room's members: taps that are summed for a moment and told as one event.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::base::clock::Tick;
use crate::base::limits::{REACTION_TAPS_MAX, REACTIONS_MILLIS_DEFAULT};
use crate::chat::encode;

/// `EventName` of the sums.
pub const REACTIONS: &str = "uproar:reactions";

/// The attribute of the event that is no reaction.
pub const WINDOW: &str = "WindowMs";

/// Taps of one reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taps {
    /// The reaction's name.
    pub key: Box<str>,
    /// How many; a client collects them, so that one request has up to `REACTION_TAPS_MAX`.
    pub count: u32,
}

impl Taps {
    /// Reads a number of taps; `None`: it is not one that a request may have.
    pub fn count(text: &str) -> Option<u32> {
        let is_digits = text.bytes().all(|b| b.is_ascii_digit());
        let count = text.parse().ok().filter(|_| is_digits)?;
        (1..=REACTION_TAPS_MAX).contains(&count).then_some(count)
    }
}

/// The sums of one room since the last event.
#[derive(Debug, Default)]
pub struct Reactions {
    // Taps by name; only names that the room's tags have come in, so that they are few.
    sums: BTreeMap<Box<str>, u64>,
    // When they are told; set while there are some.
    due: Option<Tick>,
}

impl Reactions {
    /// Adds taps; `false`: the settings have no such reaction.
    pub fn add(&mut self, key: &str, count: u64, settings: &Settings, now: Tick) -> bool {
        let names = settings.reactions.as_ref();
        if names.is_none_or(|names| !names.contains(key)) {
            return false;
        }
        let sum = self.sums.entry(key.into()).or_default();
        *sum = sum.saturating_add(count);
        self.due.get_or_insert_with(|| now.after(window(settings)));
        true
    }

    /// When the sums are to be told; `None`: nothing came.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// The sums, to be told or handed on; none are left.
    pub fn take(&mut self) -> BTreeMap<Box<str>, u64> {
        self.due = None;
        std::mem::take(&mut self.sums)
    }

    /// The sums.
    pub fn sums(&self) -> impl Iterator<Item = (&str, u64)> {
        self.sums.iter().map(|(key, sum)| (&**key, *sum))
    }

    /// `Attributes` of the event.
    pub fn attributes_json(sums: &BTreeMap<Box<str>, u64>, settings: &Settings) -> String {
        let millis = window(settings).as_millis().to_string();
        let sums: Vec<(&str, String)> = sums
            .iter()
            .map(|(key, sum)| (&**key, sum.to_string()))
            .collect();
        let sums = sums.iter().map(|(key, sum)| (*key, &**sum));
        encode::attributes_json(sums.chain([(WINDOW, &*millis)]))
    }
}

fn window(settings: &Settings) -> Duration {
    let millis = settings
        .reactions_millis
        .unwrap_or(REACTIONS_MILLIS_DEFAULT);
    Duration::from_millis(millis.into())
}
