//! Deliveries to a sink that misbehaves at random, with a model of the records it kept.

use hyper::body::Bytes;
use proptest::prelude::*;

use super::super::verdict;
use super::*;
use crate::control::aws_client::Answered;

/// A sink's service, which decides the form of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Firehose,
    Logs,
    S3,
}

/// A sink and the records it really kept.
struct Sink {
    service: Service,
    kept: Vec<u32>,
    // Records that no request may hold.
    poison: Vec<usize>,
    names_poison: bool,
    random: fastrand::Rng,
    // Requests until it behaves correctly.
    bad_left: u32,
    requests: u32,
}

fn answered(status: u16, body: impl Into<String>) -> Answered {
    Answered {
        status,
        error_type: None,
        has_etag: false,
        body: Bytes::from(body.into()),
    }
}

impl Sink {
    fn keep(&mut self, indexes: &[usize]) {
        for index in indexes {
            self.kept[*index] += 1;
        }
    }

    /// The answer of a sink that accepted all records except those at the positions `left`.
    fn truth(&self, sent: usize, left: &[usize]) -> Answered {
        match self.service {
            Service::Firehose => {
                let entry = |place| {
                    if left.contains(&place) {
                        r#"{"ErrorCode":"ServiceUnavailableException"}"#
                    } else {
                        r#"{"RecordId":"x"}"#
                    }
                };
                let entries: Vec<&str> = (0..sent).map(entry).collect();
                let (count, entries) = (left.len(), entries.join(","));
                answered(
                    200,
                    format!("{{\"FailedPutCount\":{count},\"RequestResponses\":[{entries}]}}"),
                )
            }
            Service::Logs => answered(200, r#"{"nextSequenceToken":"1"}"#),
            Service::S3 => Answered {
                has_etag: true,
                ..answered(200, "")
            },
        }
    }

    fn answer(&mut self, indexes: &[usize]) -> Outcome {
        self.requests += 1;
        let sent = indexes.len();
        let answered = match self.exchange(indexes) {
            Ok(answered) => answered,
            Err(text) => return Outcome::failed(DeliveryError::Unreachable, text),
        };
        match self.service {
            Service::Firehose => verdict::records(&answered, sent),
            Service::Logs => verdict::log_events(&answered, sent),
            Service::S3 => verdict::object(&answered),
        }
    }

    fn exchange(&mut self, indexes: &[usize]) -> Result<Answered, &'static str> {
        let sent = indexes.len();
        if indexes.iter().any(|index| self.poison.contains(index)) {
            let code = if self.names_poison {
                r#"{"__type":"InvalidArgumentException"}"#
            } else {
                "<html>no"
            };
            return Ok(answered(400, code));
        }
        if self.bad_left == 0 {
            self.keep(indexes);
            return Ok(self.truth(sent, &[]));
        }
        self.bad_left -= 1;
        let takes = self.random.bool();
        if takes {
            self.keep(indexes);
        }
        match self.random.u8(0..10) {
            0 => Err("timed out"),
            1 => Ok(answered(200, "<html><body>Welcome</body></html>")),
            2 => Ok(answered(200, "{\"FailedPutCount\":0,\"RequestResp")),
            3 => Ok(answered(503, "")),
            4 => Ok(answered(500, r#"{"__type":"InternalFailure"}"#)),
            5 => Ok(answered(302, "")),
            6 => Ok(answered(400, r#"{"__type":"ThrottlingException"}"#)),
            7 if self.service == Service::Firehose => {
                // Too short a list, or a count beyond it.
                let mut lie = self.truth(sent.saturating_sub(1), &[]);
                if self.random.bool() {
                    let text = String::from_utf8_lossy(&self.truth(sent, &[]).body)
                        .replace("\"FailedPutCount\":0", "\"FailedPutCount\":1");
                    lie = answered(200, text);
                }
                Ok(lie)
            }
            8 if self.service == Service::Firehose && !takes => {
                let left: Vec<usize> = (0..sent).filter(|_| self.random.bool()).collect();
                for (place, index) in indexes.iter().enumerate() {
                    if !left.contains(&place) {
                        self.kept[*index] += 1;
                    }
                }
                Ok(self.truth(sent, &left))
            }
            9 if self.service == Service::Logs && takes => Ok(answered(
                400,
                r#"{"__type":"DataAlreadyAcceptedException"}"#,
            )),
            _ if takes => Ok(self.truth(sent, &[])),
            _ => Err("connection reset"),
        }
    }
}

fn uploads(service: Service, records: usize, each: usize) -> Vec<UploadRequest> {
    let all: Vec<usize> = (0..records).collect();
    let upload = |indexes: &[usize]| match service {
        Service::Firehose => UploadRequest::Records {
            stream: "s".to_owned(),
            indexes: indexes.to_vec(),
        },
        // An object and a file of lines affect the queue alike.
        Service::Logs | Service::S3 => UploadRequest::LogEvents {
            group: "g".to_owned(),
            stream: "s".to_owned(),
            indexes: indexes.to_vec(),
        },
    };
    all.chunks(each).map(upload).collect()
}

/// Delivered, rejected, refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    delivered: u64,
    rejected: u64,
    refused: u64,
    pauses: Vec<Duration>,
}

fn run(shipment: &mut Shipment, sink: &mut Sink, requests_max: u32) -> Totals {
    let mut totals = Totals::default();
    while let Some(upload) = shipment.next() {
        if sink.requests >= requests_max {
            break;
        }
        let indexes = upload.indexes().to_vec();
        let report = shipment.answered(sink.answer(&indexes));
        totals.delivered += report.delivered;
        totals.rejected += report.rejected;
        totals.refused += report.refused;
        totals.pauses.extend(report.pause);
    }
    totals
}

fn sink(service: Service, records: usize, seed: u64) -> Sink {
    Sink {
        service,
        kept: vec![0; records],
        poison: Vec::new(),
        names_poison: true,
        random: fastrand::Rng::with_seed(seed),
        bad_left: 0,
        requests: 0,
    }
}

/// Goal: a sink that accepts a part each time gets the rest after the shortest pause, every time.
#[test]
fn progress_resets_the_pause() {
    let mut shipment = Shipment::new(uploads(Service::Firehose, 500, 500), 0);
    let mut sent = 0;
    while let Some(upload) = shipment.next() {
        let left: Vec<usize> = (1..upload.indexes().len()).collect();
        sent += 1;
        let text = String::new();
        let outcome = if left.is_empty() {
            Outcome::Accepted { rejected: 0 }
        } else {
            Outcome::Partial { left, text }
        };
        let report = shipment.answered(outcome);
        assert_eq!(report.delivered, 1);
        assert_eq!(report.pause, (sent < 500).then_some(LOG_RETRY_MIN));
    }
    assert_eq!(sent, 500);
}

/// Goal: without progress pauses double up to their bound, and restart after a success.
#[test]
fn pauses_double_until_a_record_is_accepted() {
    let mut shipment = Shipment::new(uploads(Service::Logs, 2, 1), 0);
    let mut expected = LOG_RETRY_MIN;
    for _ in 0..12 {
        let report = shipment.answered(Outcome::failed(DeliveryError::Throttled, ""));
        assert_eq!(report.pause, Some(expected));
        expected = (expected * 2).min(LOG_RETRY_MAX);
    }
    assert_eq!(expected, LOG_RETRY_MAX);
    assert_eq!(
        shipment.answered(Outcome::Accepted { rejected: 0 }).pause,
        None
    );
    let report = shipment.answered(Outcome::failed(DeliveryError::Throttled, ""));
    assert_eq!(report.pause, Some(LOG_RETRY_MIN));
}

/// Goal: one poisoned record among 500 costs only itself, no pause, and some twenty requests.
#[test]
fn one_poisoned_record_is_found_by_halving() {
    for culprit in [0, 1, 249, 250, 498, 499] {
        let mut shipment = Shipment::new(uploads(Service::Firehose, 1_000, 500), LOG_DROPS_MAX);
        let mut sink = sink(Service::Firehose, 1_000, 1);
        sink.poison = vec![culprit];
        let totals = run(&mut shipment, &mut sink, 100);
        assert_eq!((totals.delivered, totals.refused), (999, 1), "{culprit}");
        assert!(totals.pauses.is_empty(), "{culprit}");
        assert!(sink.requests <= 20, "{} requests", sink.requests);
        assert!((0..1_000).all(|index| (sink.kept[index] == 1) == (index != culprit)));
    }
}

/// Goal: a sink that refuses everything loses nothing as long as it does not name the data: the
/// configuration may be at fault. If it names the data, records are dropped one by one, with long
/// pauses.
#[test]
fn a_sink_that_refuses_everything_is_waited_for() {
    for names_poison in [false, true] {
        let mut shipment = Shipment::new(uploads(Service::Firehose, 64, 64), 0);
        let mut sink = sink(Service::Firehose, 64, 1);
        sink.poison = (0..64).collect();
        sink.names_poison = names_poison;
        let totals = run(&mut shipment, &mut sink, 400);
        assert_eq!(totals.refused, 0, "{names_poison}");
        let waited: Duration = totals.pauses.iter().sum();
        assert!(waited > LOG_RETRY_MAX * 300, "{waited:?}");
        // It is repaired: everything arrives.
        sink.poison.clear();
        let mended = run(&mut shipment, &mut sink, 1_000);
        assert_eq!((mended.delivered, mended.refused), (64, 0));
    }
    let mut shipment = Shipment::new(uploads(Service::Firehose, 1, 1), 0);
    let mut sink = sink(Service::Firehose, 1, 1);
    sink.poison = vec![0];
    let totals = run(&mut shipment, &mut sink, 1_000);
    assert_eq!((totals.refused, sink.requests), (1, LOG_REFUSALS_MAX));
}

/// Goal: a sink that accepted records and then refuses all of them, as with a disabled key, costs a
/// handful, not the spool; once it is repaired, everything else arrives.
#[test]
fn a_sink_that_breaks_later_costs_a_handful() {
    let mut shipment = Shipment::new(uploads(Service::S3, 500, 100), LOG_DROPS_MAX);
    let mut sink = sink(Service::S3, 500, 1);
    assert_eq!(run(&mut shipment, &mut sink, 1).delivered, 100);
    sink.poison = (0..500).collect();
    sink.names_poison = false;
    let totals = run(&mut shipment, &mut sink, 600);
    assert_eq!(totals.refused, u64::from(LOG_DROPS_MAX));
    assert_eq!(shipment.drops_left(), 0);
    sink.poison.clear();
    let mended = run(&mut shipment, &mut sink, 2_000);
    assert_eq!(
        (mended.delivered, mended.refused),
        (400 - totals.refused, 0)
    );
}

/// Goal: a record that is refused without being named as at fault does not delay others for days.
#[test]
fn a_lone_refused_record_holds_others_for_minutes() {
    let mut shipment = Shipment::new(uploads(Service::S3, 1, 1), 0);
    let mut sink = sink(Service::S3, 1, 1);
    sink.poison = vec![0];
    sink.names_poison = false;
    assert_eq!(
        run(&mut shipment, &mut sink, 100).refused,
        0,
        "nobody waits"
    );
    shipment.set_others_wait(true);
    assert_eq!(run(&mut shipment, &mut sink, 200).refused, 1);
}

proptest! {
    /// Goal: whatever a sink does, each record is kept at least once or counted as dropped; every
    /// record counted as delivered was kept; only poison is dropped; and the delivery ends soon
    /// after the sink behaves correctly.
    #[test]
    fn nothing_is_lost_to_a_bad_sink(
        service in prop_oneof![Just(Service::Firehose), Just(Service::Logs), Just(Service::S3)],
        records in 1_usize..60,
        each in 1_usize..30,
        poison in proptest::collection::btree_set(0_usize..60, 0..4),
        names_poison in any::<bool>(),
        bad in 0_u32..60,
        seed in any::<u64>(),
    ) {
        let mut sink = sink(service, records, seed);
        sink.poison = poison.into_iter().filter(|index| *index < records).collect();
        sink.names_poison = names_poison;
        sink.bad_left = bad;
        let only_poison = sink.poison.len() == records;
        let drops_left = if only_poison { LOG_DROPS_MAX } else { 0 };
        let mut shipment = Shipment::new(uploads(service, records, each), drops_left);
        let requests_max = bad + 1_000;
        let totals = run(&mut shipment, &mut sink, requests_max);
        prop_assert!(shipment.next().is_none(), "it ends");
        let halvings = 2 * (usize::BITS - each.leading_zeros()) + 4;
        let parts = u32::try_from(records.div_ceil(each) + 4 * sink.poison.len()).expect("small");
        prop_assert!(sink.requests <= 2 * bad + parts + 8 * halvings, "{} requests", sink.requests);
        let poison = sink.poison.len() as u64;
        prop_assert_eq!(totals.refused, poison);
        prop_assert_eq!(totals.rejected, 0);
        prop_assert_eq!(totals.delivered, records as u64 - poison);
        for index in 0..records {
            prop_assert_eq!(sink.kept[index] > 0, !sink.poison.contains(&index), "record {}", index);
        }
        prop_assert!(totals.pauses.iter().all(|pause| (LOG_RETRY_MIN..=LOG_RETRY_MAX).contains(pause)));
    }
}
