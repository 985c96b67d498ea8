//! `uproar bench tokens`: signed CreateChatToken calls a second over kept-alive connections.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use serde_json::{Value, json};

use super::BenchError;
use super::host::{Host, wall_clock};

/// What was measured.
#[derive(Debug)]
pub struct Tokens {
    /// Tokens a second.
    pub per_second: f64,
    /// From request to answer, in microseconds: 50th and 99th percentile, highest.
    pub percentiles: [u64; 3],
    /// Processor microseconds of the server for each call.
    pub cpu_micros: Option<f64>,
}

struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
    sent: Instant,
}

/// Keeps one call under way on each of `connections` connections for `measured`.
pub fn run(host: &Host, connections: usize, measured: Duration) -> Result<Tokens, BenchError> {
    let control = host
        .control
        .ok_or_else(|| BenchError::Server("its control listener is not known".to_owned()))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut callers = Vec::with_capacity(connections);
    let mut number = 0;
    for index in 0..connections {
        let mut caller = Caller::connect(control, &epoll, index)?;
        caller.ask(host, control, &mut number)?;
        callers.push(caller);
    }
    let mut ages = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("valid");
    let (before, started) = (host.usage(), Instant::now());
    let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
    while started.elapsed() < measured {
        let patience = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let (ready, _) =
            epoll::wait(&epoll, &mut events, Some(&patience)).map_err(io::Error::from)?;
        for event in &*ready {
            let index = usize::try_from(event.data.u64()).expect("an index");
            let caller = &mut callers[index];
            if caller.answered()? {
                let micros = caller.sent.elapsed().as_micros();
                ages.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                caller.ask(host, control, &mut number)?;
            }
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let calls = ages.len().max(1) as f64;
    let cpu = before.zip(host.usage());
    Ok(Tokens {
        per_second: ages.len() as f64 / elapsed,
        percentiles: [
            ages.value_at_quantile(0.5),
            ages.value_at_quantile(0.99),
            ages.max(),
        ],
        cpu_micros: cpu.map(|(before, after)| after.busy_since(&before).as_micros() as f64 / calls),
    })
}

impl Caller {
    fn connect(control: SocketAddr, epoll: &OwnedFd, index: usize) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(control)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(epoll, &stream, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        Ok(Self {
            stream,
            answer: Vec::with_capacity(4096),
            sent: Instant::now(),
        })
    }

    fn ask(
        &mut self,
        host: &Host,
        control: SocketAddr,
        number: &mut u64,
    ) -> Result<(), BenchError> {
        *number += 1;
        let arn = host.arn(0);
        let body = format!(
            r#"{{"roomIdentifier":"{arn}","userId":"viewer-{number}","capabilities":["SEND_MESSAGE"],"attributes":{{"displayName":"Viewer {number}"}}}}"#
        );
        let mut request = host.dev().signed_head(
            &control.to_string(),
            "/CreateChatToken",
            "",
            body.as_bytes(),
            wall_clock(),
        );
        request.push_str(&body);
        self.answer.clear();
        self.sent = Instant::now();
        // A kilobyte into an empty socket buffer: the kernel takes it whole.
        self.stream.write_all(request.as_bytes())?;
        Ok(())
    }

    /// Reads what is there; whether the answer is complete, and a token.
    fn answered(&mut self) -> Result<bool, BenchError> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => return Err(BenchError::Lost("the control listener closed".to_owned())),
            Ok(len) => self.answer.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let text = String::from_utf8_lossy(&self.answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Ok(false);
        };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        if length.is_none_or(|length: usize| body.len() < length) {
            return Ok(false);
        }
        if !head.starts_with("HTTP/1.1 200") || !body.contains("\"token\":\"") {
            return Err(BenchError::Server(format!("it answered {head} {body}")));
        }
        Ok(true)
    }
}

impl Tokens {
    /// For scripts.
    pub fn json(&self) -> Value {
        let [p50, p99, max] = self.percentiles;
        json!({
            "tokens_per_second": self.per_second.round(),
            "latency_us": {"p50": p50, "p99": p99, "max": max},
            "server_cpu_us_per_token": self.cpu_micros,
        })
    }
}
