//! Validity of a certificate chain, and the warnings about it. Times are arguments.

use std::fmt::Write;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::limits::{
    CERTIFICATE_EXPIRY_NOTICE, CERTIFICATE_NAMES_MAX, CERTIFICATE_SOON_INTERVAL,
    CERTIFICATE_WARN_INTERVAL,
};

/// Names and dates of a chain: the period in which all of its certificates are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validity {
    /// The names in the first certificate.
    names: String,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// What clients do with a chain because of its dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They accept it.
    Valid,
    /// They refuse it in less than [`CERTIFICATE_EXPIRY_NOTICE`].
    EndsSoon,
    /// They refuse it: it has expired.
    Expired,
    /// They refuse it: it is not valid yet.
    NotYetValid,
}

impl Validity {
    /// Reads a chain, the server's own certificate first; fails if one of them is not X.509.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let mut whole: Option<Self> = None;
        for (index, der) in chain.iter().enumerate() {
            let (_, certificate) = X509Certificate::from_der(der)
                .map_err(|error| format!("certificate {} of the chain: {error}", index + 1))?;
            let dates = certificate.validity();
            let (from, to) = (
                unix(dates.not_before.timestamp()),
                unix(dates.not_after.timestamp()),
            );
            whole = Some(match whole {
                None => Self {
                    names: names(&certificate),
                    not_before: from,
                    not_after: to,
                },
                Some(sofar) => Self {
                    not_before: sofar.not_before.max(from),
                    not_after: sofar.not_after.min(to),
                    ..sofar
                },
            });
        }
        whole.ok_or_else(|| "the chain is empty".to_owned())
    }

    /// The instant before which clients refuse it.
    pub(super) fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// One of a certificate with these dates.
    #[cfg(test)]
    pub(super) fn between(not_before: UnixTime, not_after: UnixTime) -> Self {
        Self {
            names: String::new(),
            not_before,
            not_after,
        }
    }

    /// The instant after which clients refuse it.
    pub(super) fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Names, dates and the warning, if there is one.
    pub(super) fn summary(&self, now: UnixTime) -> Value {
        json!({
            "names": self.names,
            "not_before": self.not_before.rfc3339(),
            "not_after": self.not_after.rfc3339(),
            "warning": self.warning(now),
        })
    }

    /// What clients do with it at `now`.
    pub(super) fn standing(&self, now: UnixTime) -> Standing {
        if now < self.not_before {
            Standing::NotYetValid
        } else if now > self.not_after {
            Standing::Expired
        } else if self.not_after.since(now) < CERTIFICATE_EXPIRY_NOTICE {
            Standing::EndsSoon
        } else {
            Standing::Valid
        }
    }

    /// The warning for the operator at `now`, with its remedy; `None` if there is none.
    pub(super) fn warning(&self, now: UnixTime) -> Option<String> {
        let names = &self.names;
        let (from, to) = (self.not_before.rfc3339(), self.not_after.rfc3339());
        match self.standing(now) {
            Standing::Valid => None,
            Standing::EndsSoon => Some(format!(
                "the certificate for {names} expires on {to}, in {}: renew it, or clients will refuse it",
                days(self.not_after.since(now))
            )),
            Standing::Expired => Some(format!(
                "the certificate for {names} expired on {to}, {} ago, and clients refuse it: renew it, or set \
                 the clock right, which says {}",
                days(now.since(self.not_after)),
                now.rfc3339()
            )),
            Standing::NotYetValid => Some(format!(
                "the certificate for {names} is not valid before {from}, in {}, and clients refuse it: use one \
                 that is, or set the clock right, which says {}",
                days(self.not_before.since(now)),
                now.rfc3339()
            )),
        }
    }
}

/// The warning about a chain whose dates cannot be read.
pub(super) fn unreadable(error: &str) -> String {
    format!("names and dates of the certificate cannot be read, and clients may refuse it: {error}")
}

/// Decides when a warning is due: at once after a change, then at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    last: Option<(Tick, Result<Validity, String>, Standing)>,
}

impl Reminder {
    /// The warning that is due at `now`, if there is one.
    pub(super) fn due(&mut self, read: Result<Validity, String>, now: Now) -> Option<String> {
        let standing = match &read {
            Ok(validity) => validity.standing(now.unix),
            Err(_) => Standing::Expired,
        };
        let interval = match standing {
            Standing::Valid | Standing::EndsSoon => CERTIFICATE_SOON_INTERVAL,
            Standing::Expired | Standing::NotYetValid => CERTIFICATE_WARN_INTERVAL,
        };
        if let Some((at, of, was)) = &self.last
            && (of, *was) == (&read, standing)
            && now.tick.since(*at) < interval
        {
            return None;
        }
        let warning = match &read {
            Ok(validity) => validity.warning(now.unix),
            Err(error) => Some(unreadable(error)),
        };
        self.last = Some((now.tick, read, standing));
        warning
    }
}

/// Alternative names, or the subject if there are none.
#[expect(clippy::wildcard_enum_match_arm, reason = "names of hosts only")]
fn names(certificate: &X509Certificate<'_>) -> String {
    let listed = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names[..],
        _ => &[],
    };
    let mut named: Vec<String> = listed
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _other => None,
        })
        .collect();
    if named.is_empty() {
        named.push(certificate.subject().to_string());
    }
    let more = named.len().saturating_sub(CERTIFICATE_NAMES_MAX);
    named.truncate(CERTIFICATE_NAMES_MAX);
    let mut text = named.join(", ");
    if more > 0 {
        let _infallible = write!(text, " and {more} more");
    }
    crate::logging::bounded(&text).into_owned()
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| std::net::IpAddr::from(octets).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|octets| std::net::IpAddr::from(octets).to_string());
    v4.or(v6).ok()
}

/// Times before the epoch count as the epoch.
fn unix(seconds: i64) -> UnixTime {
    UnixTime::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn days(span: Duration) -> String {
    let counted = |count: u64, unit: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {unit}{plural}")
    };
    match span.as_secs() {
        seconds @ 172_800.. => counted(seconds / 86_400, "day"),
        seconds @ 3_600.. => counted(seconds / 3_600, "hour"),
        seconds => counted(seconds / 60, "minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    const DAY: Duration = Duration::from_hours(24);

    fn made(names: &[&str], from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let names = names.iter().map(|name| (*name).to_owned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).expect("valid names");
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone()
    }

    fn at(text: &str) -> UnixTime {
        let time: jiff::Timestamp = text.parse().expect("RFC 3339");
        unix(time.as_second())
    }

    /// Goal: each state begins at its second, and the warning has names, dates and remedy.
    #[test]
    fn the_dates_decide_to_the_second() {
        let chain = [made(
            &["chat.example.org", "10.0.0.5"],
            (2026, 1, 1),
            (2026, 4, 1),
        )];
        let validity = Validity::of_chain(&chain).expect("X.509");
        for (time, standing, words) in [
            (
                "2025-12-31T23:59:59Z",
                Standing::NotYetValid,
                "not valid before 2026-01-01T00:00:00Z",
            ),
            ("2026-01-01T00:00:00Z", Standing::Valid, ""),
            ("2026-03-18T00:00:00Z", Standing::Valid, ""),
            (
                "2026-03-18T00:00:01Z",
                Standing::EndsSoon,
                "in 13 days: renew it",
            ),
            ("2026-04-01T00:00:00Z", Standing::EndsSoon, "in 0 minutes"),
            (
                "2026-04-01T00:00:01Z",
                Standing::Expired,
                "expired on 2026-04-01T00:00:00Z, 0 minutes ago",
            ),
            ("2026-04-02T01:00:00Z", Standing::Expired, "25 hours ago"),
        ] {
            assert_eq!(validity.standing(at(time)), standing, "{time}");
            let warning = validity.warning(at(time)).unwrap_or_default();
            assert!(warning.contains(words), "{time}: {warning}");
            assert_eq!(warning.is_empty(), standing == Standing::Valid, "{time}");
            if !warning.is_empty() {
                assert!(warning.contains("chat.example.org, 10.0.0.5"), "{warning}");
            }
        }
    }

    /// Goal: a chain is valid only while all of it is, has the names of its first certificate, and names do not fill
    /// the log.
    #[test]
    fn the_first_end_of_a_chain_counts() {
        let many: Vec<String> = (0..40).map(|i| format!("{i}.example.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let chain = [
            made(&many, (2026, 1, 1), (2026, 4, 1)),
            made(&["issuer"], (2026, 2, 1), (2026, 3, 1)),
        ];
        let validity = Validity::of_chain(&chain).expect("X.509");
        assert_eq!(validity.not_after(), at("2026-03-01T00:00:00Z"));
        assert_eq!(
            validity.standing(at("2026-01-15T00:00:00Z")),
            Standing::NotYetValid
        );
        assert!(
            validity.names.ends_with("and 35 more"),
            "{}",
            validity.names
        );
        assert!(!validity.names.contains("issuer"));
    }

    #[test]
    fn bytes_that_are_no_certificate_are_reported() {
        let noise = [CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
        let error = Validity::of_chain(&noise).expect_err("no X.509");
        assert!(error.contains("certificate 1 of the chain"), "{error}");
        assert!(Validity::of_chain(&[]).is_err());
    }

    /// Goal: a change is reported at once; the same warning again once an hour if clients refuse the certificate,
    /// once a day if they soon will; independent of the wall clock.
    #[test]
    fn warnings_have_a_bounded_rate() {
        let chain = [made(&["a.example"], (2026, 1, 1), (2026, 4, 1))];
        let validity = Validity::of_chain(&chain).expect("X.509");
        let mut reminder = Reminder::default();
        let (mut soon, mut ended) = (0, 0);
        // From 20 days before its end to two days after it, in steps of a minute.
        let begin = at("2026-03-12T00:00:00Z");
        for minute in 0..22 * 24 * 60 {
            let passed = Duration::from_mins(minute);
            let now = Now {
                tick: Tick::default().after(passed),
                unix: begin.after(passed),
            };
            match reminder.due(Ok(validity.clone()), now) {
                Some(text) if text.contains("expired on") => ended += 1,
                Some(_) => soon += 1,
                None => {}
            }
        }
        assert_eq!((soon, ended), (14, 48));
        // A renewed one with the same dates is a change.
        let chain = [made(&["b.example"], (2026, 1, 1), (2026, 4, 1))];
        let renewed = Validity::of_chain(&chain).expect("X.509");
        let now = Now {
            tick: Tick::default().after(22 * DAY),
            unix: begin.after(22 * DAY),
        };
        assert!(reminder.due(Ok(renewed.clone()), now).is_some());
        assert!(reminder.due(Ok(renewed.clone()), now).is_none());
        let stepped = Now {
            unix: begin.after(400 * DAY),
            ..now
        };
        assert!(
            reminder.due(Ok(renewed), stepped).is_none(),
            "the wall clock is not its rate"
        );
    }
}
