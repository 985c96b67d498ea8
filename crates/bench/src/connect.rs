//! `uproar bench connect`: handshakes, many under way at once; with a token, if the server has tokens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::handshake::Handshakes;
use super::host::Host;
use super::machine::Usage;
use super::{Ages, BenchError, histogram, viewer};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Handshakes altogether.
    pub total: usize,
    /// Handshakes under way at once.
    pub width: usize,
    /// Connections that stay open; beyond it the oldest is cut.
    pub held: usize,
}

/// What was measured.
#[derive(Debug)]
pub struct Connect {
    /// Connections that came to stand, a second.
    pub per_second: f64,
    /// Those.
    pub opened: u64,
    /// Those that did not, and why the first did not.
    pub refused: u64,
    /// See there.
    pub first_refusal: Option<String>,
    /// From the first packet to the end of the server's answer.
    pub ages: Ages,
    /// Processor microseconds of the server for each handshake, user and system; cutting is in it.
    pub cpu_micros: Option<[f64; 2]>,
    /// Share of the time in which this program was busy. Near 1 the server waited for it.
    pub client_busy: f64,
}

/// Mints the tokens, if there are any, and writes the requests, then shakes hands; `connected` hears of each end.
pub fn run(host: &Host, plan: Plan, mut connected: impl FnMut()) -> Result<Connect, BenchError> {
    let mint = |index: usize| host.entrance(index % host.room_count(), &viewer::name(index));
    let mut handshakes = Handshakes::new(host.messaging)?;
    let mut requests = Vec::with_capacity(plan.total);
    for index in 0..plan.total {
        let (path, token) = mint(index)?;
        requests.push(handshakes.request(&path, token.as_deref()));
    }
    let mut requests = requests.into_iter().enumerate();
    let mut held = VecDeque::with_capacity(plan.held + 1);
    let (mut ages, mut refused, mut first_refusal) = (histogram(), 0, None);
    let own = || Usage::of(std::process::id());
    let (server_before, own_before, begun) = (host.usage(), own(), Instant::now());
    loop {
        while handshakes.under_way() < plan.width {
            let Some((index, request)) = requests.next() else {
                break;
            };
            handshakes
                .begin(index, request)
                .map_err(|cause| BenchError::Connect { index, cause })?;
        }
        if handshakes.under_way() == 0 {
            break;
        }
        handshakes.turn(TURN, |ended| {
            connected();
            match ended.outcome {
                Ok(stream) => {
                    let micros = ended.took.as_micros();
                    ages.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                    held.push_back(stream);
                }
                Err(error) => {
                    refused += 1;
                    first_refusal.get_or_insert_with(|| error.to_string());
                }
            }
        })?;
        while held.len() > plan.held {
            held.pop_front().map(viewer::reset).transpose()?;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let opened = ages.len();
    let cpu_micros = server_before.zip(host.usage()).map(|(before, after)| {
        let each = |time: Duration| time.as_micros() as f64 / opened.max(1) as f64;
        after.since(&before).map(each)
    });
    Ok(Connect {
        per_second: opened as f64 / elapsed,
        opened,
        refused,
        first_refusal,
        ages: Ages::of(&ages),
        cpu_micros,
        client_busy: own().busy_since(&own_before).as_secs_f64() / elapsed,
    })
}

impl Connect {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "handshakes_per_second": self.per_second.round(),
            "opened": self.opened,
            "refused": self.refused,
            "first_refusal": self.first_refusal,
            "latency_us": self.ages.json(),
            "server_cpu_us_per_handshake": self.cpu_micros.map(|[user, system]| json!({"user": user, "system": system})),
            "client_busy": self.client_busy,
        })
    }
}

/// Longest wait for something to happen.
const TURN: Duration = Duration::from_millis(100);
