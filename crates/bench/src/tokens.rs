//! `uproar bench tokens`: signed CreateChatToken calls per second over kept-alive connections.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::harness::ages::{histogram, record};
use crate::harness::api::wall_clock;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, seconds};
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::server::{ServerUnderTest, Uproar};
use crate::harness::target::Target;

/// Flags of `uproar bench tokens`.
#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(flatten)]
    target: Target,
    /// Control listener of the server of --target, which must be an `uproar dev`, because its
    /// access key is known
    #[arg(long, value_name = "ADDRESS", requires = "messaging")]
    control: Option<SocketAddr>,
    /// Kept-alive connections, each with one call in progress
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = count(1..=1024))]
    connections: usize,
    /// Length of the measurement, in seconds
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
}

/// The result of the measurement.
struct Report {
    /// Tokens per second.
    per_second: f64,
    /// From request to answer, in microseconds: 50th and 99th percentile, maximum.
    percentiles: [u64; 3],
    /// Processor microseconds of the server for each call.
    cpu_micros: Option<f64>,
}

impl Tokens {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        if self.target.messaging.is_some() && self.control.is_none() {
            let text = "--target: calls go to the server's control listener; add --control ADDRESS";
            return Err(Failure::Usage(text.to_owned()));
        }
        if self.target.tls {
            let text = "--tls: tokens come from the API, which is measured without TLS";
            return Err(Failure::Usage(text.to_owned()));
        }
        let server = self.target.server(environment.program, 1)?;
        let report = self.measure(&server)?;
        if self.target.json {
            let mut result = report.json();
            result["machine"] = environment.machine.as_str().into();
            println!("{result}");
            return Ok(());
        }
        let [p50, p99, max] = report.percentiles;
        println!("machine     {}", environment.machine);
        println!(
            "tokens      {:.0} a second over {} connections",
            report.per_second, self.connections
        );
        println!("latency     p50 {p50} us, p99 {p99} us, max {max} us");
        if let Some(cpu) = report.cpu_micros {
            println!("processor   {cpu:.1} us of the server each");
        }
        Ok(())
    }

    /// Keeps one call in progress on each connection.
    fn measure(&self, server: &ServerUnderTest) -> Result<Report, BenchError> {
        let control = self.control.or(server.control);
        let control = control
            .ok_or_else(|| BenchError::Server("its control listener is not known".to_owned()))?;
        let uproar = server.uproar()?;
        let poll = Poll::new()?;
        let mut callers = Vec::with_capacity(self.connections);
        let mut number = 0;
        for index in 0..self.connections {
            let mut caller = Caller::connect(control)?;
            poll.add(&caller.stream, index)?;
            caller.call(uproar, control, &mut number)?;
            callers.push(caller);
        }
        let mut ages = histogram();
        let (before, started) = (server.usage(), Instant::now());
        while started.elapsed() < self.measured {
            for index in poll.wait::<64>(PATIENCE)? {
                let caller = &mut callers[index];
                if caller.is_answered()? {
                    record(&mut ages, caller.sent.elapsed());
                    caller.call(uproar, control, &mut number)?;
                }
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        let calls = ages.len().max(1) as f64;
        let busy = server.busy_since(before);
        Ok(Report {
            per_second: ages.len() as f64 / elapsed,
            percentiles: [
                ages.value_at_quantile(0.5),
                ages.value_at_quantile(0.99),
                ages.max(),
            ],
            cpu_micros: busy.map(|time| time.as_micros() as f64 / calls),
        })
    }
}

/// A connection to the control listener.
struct Caller {
    stream: TcpStream,
    /// What came of the answer to the call in progress.
    answer: Vec<u8>,
    /// When the call was sent.
    sent: Instant,
}

impl Caller {
    fn connect(control: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(control)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            answer: Vec::with_capacity(4096),
            sent: Instant::now(),
        })
    }

    /// Sends the next call.
    fn call(
        &mut self,
        uproar: &Uproar,
        control: SocketAddr,
        number: &mut u64,
    ) -> Result<(), BenchError> {
        *number += 1;
        let arn = uproar.arn(0);
        let body = format!(
            r#"{{"roomIdentifier":"{arn}","userId":"viewer-{number}","capabilities":["SEND_MESSAGE"],"attributes":{{"displayName":"Viewer {number}"}}}}"#
        );
        let dev = &uproar.program.dev;
        let (host, path) = (control.to_string(), "/CreateChatToken");
        let mut request = dev.signed_head(&host, path, "", body.as_bytes(), wall_clock());
        request.push_str(&body);
        self.answer.clear();
        self.sent = Instant::now();
        // A kilobyte into an empty socket buffer: the kernel takes it whole.
        self.stream.write_all(request.as_bytes())?;
        Ok(())
    }

    /// Reads what came. Returns whether the answer is complete.
    ///
    /// # Errors
    ///
    /// An answer without a token, or the end of the connection.
    fn is_answered(&mut self) -> Result<bool, BenchError> {
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

impl Report {
    fn json(&self) -> Value {
        let [p50, p99, max] = self.percentiles;
        json!({
            "tokens_per_second": self.per_second.round(),
            "latency_us": {"p50": p50, "p99": p99, "max": max},
            "server_cpu_us_per_token": self.cpu_micros,
        })
    }
}

/// Longest wait for an answer before the clock is read.
const PATIENCE: Duration = Duration::from_secs(1);
