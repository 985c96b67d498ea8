//! A drain's pace, and what the token endpoint allows.

use std::time::Duration;

use serde::Serialize;

use crate::config::DrainSettings;
use crate::server::admin::DrainOrder;
use uproar_proto::base::limits::DRAIN_TOKENS_PERCENT;

/// What a drain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Plan {
    /// Viewers when it begins.
    pub(super) viewers: u64,
    pub(super) notice: Duration,
    pub(super) over: Duration,
}

/// What the command is told of it.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Begun {
    viewers: u64,
    notice_s: u64,
    over_s: u64,
    // Cuts a second; none if all are cut at once.
    per_second: Option<u64>,
    // Calls of CreateChatToken a second; none if they are not limited.
    tokens_per_second: Option<u32>,
}

impl Plan {
    /// What `order` asks for; `settings` says what it leaves out.
    pub(super) fn of(order: &DrainOrder, settings: DrainSettings, viewers: u64) -> Self {
        let or = |seconds: Option<u64>, default| seconds.map_or(default, Duration::from_secs);
        Self {
            viewers,
            notice: or(order.notice_s, settings.notice),
            over: or(order.over_s, settings.over),
        }
    }

    /// Cuts a second, rounded up; `None`: all at once.
    fn per_second(&self) -> Option<u64> {
        let seconds = self.over.as_secs();
        (seconds > 0).then(|| self.viewers.div_ceil(seconds))
    }

    /// Why at this pace viewers would be refused their tokens, with the ways out. Zero for `token_rate`: it is
    /// not limited. All at once is no pace: then the server stops, and its next start grants their tokens.
    pub(super) fn excess(&self, token_rate: u32) -> Option<String> {
        let (viewers, over, pace) = (self.viewers, self.over.as_secs(), self.per_second()?);
        let allowed = u64::from(token_rate) * DRAIN_TOKENS_PERCENT;
        if token_rate == 0 || viewers * 100 <= allowed * over {
            return None;
        }
        let longer = (viewers * 100).div_ceil(allowed);
        let higher = (viewers * 100).div_ceil(DRAIN_TOKENS_PERCENT * over);
        Some(format!(
            "{viewers} viewers over {over} s are {pace}/s; CreateChatToken allows {token_rate}/s, of which a drain \
             takes {DRAIN_TOKENS_PERCENT} %, and who is refused four times does not come back: take --over {longer}s, \
             or raise quotas.operations to \"CreateChatToken={higher}\" where they go; --force does it all the same"
        ))
    }

    /// What the command is told.
    pub(in crate::server) fn begun(&self, token_rate: u32) -> Begun {
        Begun {
            viewers: self.viewers,
            notice_s: self.notice.as_secs(),
            over_s: self.over.as_secs(),
            per_second: self.per_second(),
            tokens_per_second: (token_rate > 0).then_some(token_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(viewers: u64, over_s: u64) -> Plan {
        let order = DrainOrder {
            over_s: Some(over_s),
            ..DrainOrder::default()
        };
        Plan::of(&order, DrainSettings::default(), viewers)
    }

    /// Goal: a pace that costs viewers is refused with both ways out, and these suffice. Method: take the advice.
    #[test]
    fn the_ways_out_lead_out() {
        let excess = plan(50_000, 120).excess(200).expect("417/s");
        for part in [
            "50000 viewers over 120 s are 417/s",
            "allows 200/s",
            "--over 313s",
        ] {
            assert!(excess.contains(part), "{excess}");
        }
        for (viewers, over, rate) in [
            (50_000, 120, 200),
            (1_000, 1, 200),
            (7, 1, 1),
            (161, 1, 200),
        ] {
            let excess = plan(viewers, over).excess(rate).expect("too fast");
            let number = |before: &str| -> u64 {
                let (_, rest) = excess.split_once(before).expect(before);
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                digits.and_then(|digits| digits.parse().ok()).expect(before)
            };
            assert_eq!(plan(viewers, number("--over ")).excess(rate), None);
            let higher = u32::try_from(number("CreateChatToken=")).expect("a rate");
            assert_eq!(plan(viewers, over).excess(higher), None);
            assert!(
                plan(viewers, over).excess(higher - 1).is_some(),
                "the least rate"
            );
        }
    }

    /// Goal: what cannot exceed the rate is not refused.
    #[test]
    fn slow_or_unlimited_drains_are_not_refused() {
        for (viewers, over, rate) in [
            (160, 1, 200),
            (0, 1, 1),
            (1_000_000, 1, 0),
            (1_000_000, 0, 200),
        ] {
            assert_eq!(plan(viewers, over).excess(rate), None);
        }
    }
}
