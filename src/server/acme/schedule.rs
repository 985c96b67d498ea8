//! When an order is due, and when one may be made. Pure: times and draws are arguments.

use std::time::Duration;

use super::fault::{Fault, Kind};
use crate::server::certificate::Validity;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::{
    ACME_REFUSED_WAIT, ACME_REFUSED_WAIT_MAX, ACME_RETRY_AFTER_MAX, ACME_UNREACHABLE_WAIT,
    ACME_UNREACHABLE_WAIT_MAX,
};

/// A certificate is renewed after two thirds of its life, and up to this part of it later: servers that were started together
/// do not order together.
const SPREAD_PARTS: u32 = 24;

/// When a certificate is to be renewed; `draw` is between 0 and 1.
pub(super) fn renewal(validity: &Validity, draw: f64) -> UnixTime {
    let life = validity.not_after().since(validity.not_before());
    let spread = (life / SPREAD_PARTS).mul_f64(draw.clamp(0.0, 1.0));
    validity.not_before().after(life * 2 / 3 + spread)
}

/// How long to wait after the last of `failures` failed attempts; `draw` is between 0 and 1.
pub(super) fn wait(fault: &Fault, failures: u32, draw: f64) -> Duration {
    let (first, most) = match fault.kind {
        Kind::Unreachable => (ACME_UNREACHABLE_WAIT, ACME_UNREACHABLE_WAIT_MAX),
        Kind::Refused | Kind::Here => (ACME_REFUSED_WAIT, ACME_REFUSED_WAIT_MAX),
    };
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    // Up to a quarter more, so that servers that failed together do not come back together.
    let wait = doubled.min(most).mul_f64(1.0 + draw.clamp(0.0, 1.0) / 4.0);
    fault
        .retry_after
        .map_or(wait, |asked| asked.min(ACME_RETRY_AFTER_MAX).max(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(from: u64, to: u64) -> Validity {
        Validity::between(UnixTime::from_secs(from), UnixTime::from_secs(to))
    }

    /// Goal: two thirds, and at most a 24th later, whatever is drawn.
    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let day = 86_400;
        let of_90_days = validity(1_000 * day, 1_090 * day);
        assert_eq!(renewal(&of_90_days, 0.0).secs(), 1_060 * day);
        let latest = renewal(&of_90_days, 1.0).secs();
        assert!((1_063 * day..1_064 * day).contains(&latest), "{latest}");
        assert_eq!(renewal(&of_90_days, 7.0).secs(), latest);
        // One that ends before it begins is renewed at once, not in the past of the epoch.
        assert_eq!(renewal(&validity(10, 5), 1.0).secs(), 10);
    }

    /// Goal: waits double up to their bound; a refusal waits longer than an authority that is away, so that its rate limits
    /// hold; its own word counts, within a day.
    #[test]
    fn waits_double_and_end() {
        let refused = Fault::refused("no");
        let secs = |failures| wait(&refused, failures, 0.0).as_secs();
        assert_eq!([secs(1), secs(2), secs(3)], [300, 600, 1_200]);
        assert_eq!(secs(60), ACME_REFUSED_WAIT_MAX.as_secs());
        let mut away = Fault::refused("no");
        away.kind = Kind::Unreachable;
        assert_eq!(wait(&away, 1, 0.0).as_secs(), 10);
        assert_eq!(wait(&away, 1, 1.0).as_millis(), 12_500);
        assert_eq!(wait(&away, u32::MAX, 0.0), ACME_UNREACHABLE_WAIT_MAX);
        away.retry_after = Some(Duration::from_hours(2));
        assert_eq!(wait(&away, 1, 0.0), Duration::from_hours(2));
        away.retry_after = Some(Duration::MAX);
        assert_eq!(wait(&away, 1, 0.0), ACME_RETRY_AFTER_MAX);
        // Five failed attempts within an hour are one too many at Let's Encrypt.
        let within_an_hour = (1..).scan(0, |at, failures| {
            *at += secs(failures);
            (*at < 3_600).then_some(*at)
        });
        let attempts = 1 + within_an_hour.count();
        assert!(attempts < 5, "{attempts}");
    }
}
