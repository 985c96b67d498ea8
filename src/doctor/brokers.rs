//! `uproar doctor --cluster`: whether the brokers are set as a cluster needs them.

use std::time::Duration;

use jiff::Timestamp;

use super::finding::{Finding, Verdict, finding};
use super::show::size;
use crate::cluster::survey::{Broker, Greeting, Monitoring};

/// The oldest broker that groups the syncs of its log: with 2.12 `sync_interval: always` takes a sixth of the appends.
const VERSION_MIN: (u32, u32) = (2, 15);
/// Records are at most half as long; what a broker adds must fit, too.
const PAYLOAD_MIN: u64 = 1024 * 1024;
/// Eight logs of 256 MiB and 8 GiB of token uses, which brokers reserve, and the registry.
const STORAGE_MIN: u64 = 11 * 1024 * 1024 * 1024;
/// At 2 s a node is not ready.
const SKEW_MAX: Duration = Duration::from_secs(1);

/// Checks everything, in reading order. `now` is this machine's clock.
pub(crate) fn examine_brokers(brokers: &[Broker], now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![number(brokers), leader(brokers), names(brokers)];
    for broker in brokers {
        let name = match &broker.greeting {
            Ok(greeting) => &greeting.name,
            Err(_) => &broker.server,
        };
        match &broker.greeting {
            Ok(greeting) => findings.extend(greeted(name, greeting)),
            Err(why) => findings.push(finding(
                &format!("{name} answers"),
                "no",
                "yes",
                Verdict::Change,
                why,
            )),
        }
        if broker.greeting.is_ok() {
            findings.extend(monitored(name, broker.monitoring.as_ref(), now));
        }
    }
    findings
}

fn verdict(is_ok: bool) -> Verdict {
    if is_ok { Verdict::Ok } else { Verdict::Change }
}

fn number(brokers: &[Broker]) -> Finding {
    let answer = brokers
        .iter()
        .filter(|broker| broker.greeting.is_ok())
        .count();
    let all = brokers.len();
    let is_ok = answer == all && all >= 3 && all % 2 == 1;
    finding(
        "brokers that answer",
        format!("{answer} of {all}"),
        "3 of 3, or 5 of 5",
        verdict(is_ok),
        "a majority must answer: three survive the loss of one, five of two; two survive none",
    )
}

fn leader(brokers: &[Broker]) -> Finding {
    let mut known = brokers
        .iter()
        .filter_map(|broker| broker.monitoring.as_ref().ok())
        .peekable();
    let is_known = known.peek().is_some();
    let leader = known.find_map(|known| known.jetstream.meta.leader.clone());
    let verdict = match (&leader, is_known) {
        (Some(_), _) => Verdict::Ok,
        (None, true) => Verdict::Change,
        (None, false) => Verdict::Unknown,
    };
    finding(
        "quorum",
        leader.map_or_else(
            || "no leader known".to_owned(),
            |leader| format!("{leader} leads"),
        ),
        "a leader",
        verdict,
        "without one nothing is written: see that brokers reach each other's cluster port",
    )
}

/// One cluster of brokers, each with a name of its own.
fn names(brokers: &[Broker]) -> Finding {
    let greetings = || {
        brokers
            .iter()
            .filter_map(|broker| broker.greeting.as_ref().ok())
    };
    let mut names: Vec<_> = greetings().map(|greeting| &greeting.name).collect();
    let answer = names.len();
    names.sort();
    names.dedup();
    let mut clusters: Vec<_> = greetings()
        .map(|greeting| greeting.cluster.as_deref().unwrap_or("none"))
        .collect();
    clusters.sort_unstable();
    clusters.dedup();
    let is_ok = names.len() == answer && clusters.len() == 1 && clusters != ["none"];
    finding(
        "cluster of brokers",
        clusters.join(", "),
        "one, with a name for each broker",
        verdict(is_ok || answer == 0),
        "cluster.name must be the same on each broker and server_name another on each",
    )
}

fn greeted(name: &str, greeting: &Greeting) -> [Finding; 3] {
    let (major, minor) = VERSION_MIN;
    [
        finding(
            &format!("{name} version"),
            &greeting.version,
            format!("{major}.{minor} or newer"),
            verdict(version(&greeting.version) >= Some(VERSION_MIN)),
            "older ones acknowledge what a crash may lose, or sync each record alone",
        ),
        finding(
            &format!("{name} max_payload"),
            size(Some(greeting.max_payload)),
            size(Some(PAYLOAD_MIN)),
            verdict(greeting.max_payload >= PAYLOAD_MIN),
            "a batch of frames must fit: max_payload: 1MB",
        ),
        finding(
            &format!("{name} jetstream"),
            if greeting.jetstream { "on" } else { "off" },
            "on",
            verdict(greeting.jetstream),
            "logs are kept in streams: jetstream { store_dir: … }",
        ),
    ]
}

fn monitored(name: &str, monitoring: Result<&Monitoring, &String>, now: Timestamp) -> Vec<Finding> {
    let known = match monitoring {
        Ok(known) => known,
        Err(why) => {
            let reason = format!(
                "{why}. Its monitoring port tells sync_interval, disk and clock: set `http: 127.0.0.1:8222` (4000 above its port) \
                 and run this there, or look at its configuration: sync_interval: always"
            );
            return vec![finding(
                &format!("{name} sync_interval"),
                "not known",
                "always",
                Verdict::Unknown,
                reason,
            )];
        }
    };
    vec![
        sync(name, known),
        storage(name, known),
        clock(name, known, now),
    ]
}

fn sync(name: &str, known: &Monitoring) -> Finding {
    let config = &known.jetstream.config;
    let found = if config.sync_always {
        "always".to_owned()
    } else {
        format!("{} s", Duration::from_nanos(config.sync_interval).as_secs())
    };
    finding(
        &format!("{name} sync_interval"),
        found,
        "always",
        verdict(config.sync_always),
        "else two brokers that lose power at once forget what was acknowledged",
    )
}

fn storage(name: &str, known: &Monitoring) -> Finding {
    let max = known.jetstream.config.max_storage;
    finding(
        &format!("{name} max_file_store"),
        size(Some(max)),
        size(Some(STORAGE_MIN)),
        verdict(max >= STORAGE_MIN),
        format!(
            "{} are used now; streams reserve what they may grow to",
            size(Some(known.jetstream.stats.storage))
        ),
    )
}

fn clock(name: &str, known: &Monitoring, now: Timestamp) -> Finding {
    let skew = known
        .now
        .parse::<Timestamp>()
        .ok()
        .map(|theirs| now.duration_since(theirs).unsigned_abs());
    finding(
        &format!("{name} clock"),
        skew.map_or_else(
            || "not known".to_owned(),
            |skew| format!("{} ms off", skew.as_millis()),
        ),
        format!("within {} s", SKEW_MAX.as_secs()),
        skew.map_or(Verdict::Unknown, |skew| verdict(skew <= SKEW_MAX)),
        "against this machine; token times and readiness depend on it: run NTP on both",
    )
}

/// Of `2.15.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(name: &str, monitoring: &str) -> Broker {
        let greeting = format!(
            r#"{{"server_name":"{name}","version":"2.15.1","max_payload":1048576,"jetstream":true,"cluster":"c"}}"#
        );
        Broker {
            server: "nats://127.0.0.1:4222".to_owned(),
            greeting: Ok(serde_json::from_str(&greeting).expect("a greeting")),
            pid: None,
            monitoring: Ok(serde_json::from_str(monitoring).expect("a page")),
        }
    }

    const GOOD: &str = r#"{"now":"2026-11-28T12:00:00.5Z","jetstream":{"config":{"max_storage":17179869184,"sync_always":true},"meta":{"leader":"a"}}}"#;

    fn wrong(brokers: &[Broker]) -> Vec<String> {
        let now = "2026-11-28T12:00:00Z".parse().expect("a time");
        let findings = examine_brokers(brokers, now).into_iter();
        findings
            .filter(|found| found.verdict != Verdict::Ok)
            .map(|found| found.check)
            .collect()
    }

    /// Goal: three good brokers pass, and each single fault is found under its name. Method: one fault at a time.
    #[test]
    fn each_fault_is_found() {
        let good = || ["a", "b", "c"].map(|name| broker(name, GOOD));
        assert_eq!(wrong(&good()), Vec::<String>::new());
        let with = |change: fn(&mut Broker)| {
            let mut brokers = good();
            change(&mut brokers[2]);
            wrong(&brokers)
        };
        assert_eq!(
            with(|b| b.greeting.as_mut().expect("one").version = "2.9.10".to_owned()),
            ["c version"]
        );
        assert_eq!(
            with(|b| b.greeting.as_mut().expect("one").max_payload = 65_536),
            ["c max_payload"]
        );
        assert_eq!(
            with(|b| b.greeting.as_mut().expect("one").jetstream = false),
            ["c jetstream"]
        );
        assert_eq!(
            with(|b| b.greeting.as_mut().expect("one").name = "a".to_owned()),
            ["cluster of brokers"]
        );
        assert_eq!(
            with(|b| b.greeting.as_mut().expect("one").cluster = Some("d".to_owned())),
            ["cluster of brokers"]
        );
        assert_eq!(
            with(|b| b
                .monitoring
                .as_mut()
                .expect("one")
                .jetstream
                .config
                .sync_always = false),
            ["c sync_interval"]
        );
        assert_eq!(
            with(|b| b
                .monitoring
                .as_mut()
                .expect("one")
                .jetstream
                .config
                .max_storage = 7),
            ["c max_file_store"]
        );
        assert_eq!(
            with(|b| b.monitoring.as_mut().expect("one").now = "2026-11-28T12:01:00Z".to_owned()),
            ["c clock"]
        );
        assert_eq!(
            with(|b| b.monitoring = Err("refused".to_owned())),
            ["c sync_interval"]
        );
        let dead = with(|b| b.greeting = Err("refused".to_owned()));
        assert_eq!(
            dead,
            ["brokers that answer", "nats://127.0.0.1:4222 answers"]
        );
        assert_eq!(wrong(&good()[..2]), ["brokers that answer"]);
    }
}
