//! `uproar top`: a running server at a glance, live.

mod look;
mod quantile;
mod screen;
mod view;

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use self::look::{Look, stats};
use self::screen::Screen;
use self::view::view;
use super::failure::Failure;
use super::output::print;
use super::place::Place;

/// `uproar top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Keys: q or Ctrl-C ends.")]
pub(super) struct TopCommand {
    /// Show it once, as plain text, after one interval
    #[arg(long)]
    once: bool,
    /// Print a JSON object each interval: `stats`, `rates` a second, `by_viewers`, `by_rate`
    #[arg(long)]
    json: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    #[command(flatten)]
    place: Place,
}

impl TopCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let data_dir = self.place.existing()?.data_dir;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Run(error.to_string()))?;
        runtime.block_on(self.watch(&data_dir))
    }

    async fn watch(&self, data_dir: &Path) -> Result<(), Failure> {
        let interval = Duration::from_secs(self.interval);
        let is_live = !self.once && !self.json;
        let fail = |error: io::Error| Failure::Run(error.to_string());
        let mut ends = Ends::new().map_err(fail)?;
        let mut before = stats(data_dir)?;
        let mut screen = None;
        if is_live {
            let entered = Screen::enter();
            screen = Some(entered.map_err(|error| Failure::Usage(error.to_string()))?);
            ends.quit = Some(await_quit().map_err(fail)?);
        }
        // The first look has nothing to compare with, and says so by zeros; a screen shows it at once.
        let mut pause = if is_live { Duration::ZERO } else { interval };
        loop {
            if ends.come_within(pause).await {
                return Ok(());
            }
            pause = interval;
            let look = match Look::take(data_dir, before) {
                Ok(look) => look,
                Err(failure) => {
                    // The terminal is as it was before the reason is told.
                    drop(screen.take());
                    return Err(failure);
                }
            };
            self.show(&look, screen.as_mut())?;
            if self.once {
                return Ok(());
            }
            before = look.stats;
        }
    }

    fn show(&self, look: &Look, screen: Option<&mut Screen>) -> Result<(), Failure> {
        if self.json {
            return print(&format!("{}\n", look.json()));
        }
        match screen {
            Some(screen) => {
                let (columns, rows) = screen.size();
                let shown = screen.show(&view(look, columns, rows));
                shown.map_err(|error| Failure::Run(error.to_string()))
            }
            None => print(&view(look, 80, usize::MAX).join("\n")).and_then(|()| print("\n")),
        }
    }
}

/// What ends it from outside. Kept for as long as it runs, so that no signal falls between two looks.
struct Ends {
    signals: [Signal; 3],
    // The user's wish, if the terminal is ours.
    quit: Option<oneshot::Receiver<()>>,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        let quit = None;
        Ok(Self { signals, quit })
    }

    /// Waits; true if the user or a signal ends it.
    async fn come_within(&mut self, pause: Duration) -> bool {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let key = async {
            match &mut self.quit {
                Some(quit) => drop(quit.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            _ = hangup.recv() => true,
            () = key => true,
        }
    }
}

/// Reads keys from now on; the receiver is told when the user has pressed `q`, Ctrl-C or Ctrl-D, or the terminal is
/// gone. The thread that reads ends with the process.
fn await_quit() -> io::Result<oneshot::Receiver<()>> {
    let (quit, told) = oneshot::channel();
    let reader = std::thread::Builder::new().name("keys".to_owned());
    reader.spawn(move || {
        let mut keys = [0; 64];
        while let Ok(len @ 1..) = io::stdin().lock().read(&mut keys) {
            if keys
                .iter()
                .take(len)
                .any(|key| matches!(key, b'q' | b'Q' | 3 | 4))
            {
                break;
            }
        }
        let _over = quit.send(());
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stats_of(pid: u32, uptime_ms: u64, delivered: u64) -> Value {
        json!({"pid": pid, "uptime_ms": uptime_ms, "totals": {"delivered": delivered}})
    }

    fn look(before: Value, stats: Value) -> Look {
        let (by_viewers, by_rate) = (json!([]), json!([]));
        Look {
            before,
            stats,
            by_viewers,
            by_rate,
        }
    }

    /// Goal: a rate is what was added by the time that passed at the server, whatever the command's pauses are; a new
    /// process, whose totals begin at zero, has no rate at first.
    #[test]
    fn rates_are_differences() {
        let steady = look(stats_of(1, 10_000, 500), stats_of(1, 12_000, 900));
        assert!((steady.per_second("/totals/delivered") - 200.0).abs() < 1e-9);
        assert_eq!(steady.json()["rates"]["delivered"], 200.0);
        let anew = look(stats_of(1, 10_000, 500), stats_of(2, 12_000, 900));
        assert!(anew.per_second("/totals/delivered").abs() < 1e-9);
        let same = look(stats_of(1, 10_000, 500), stats_of(1, 10_000, 500));
        assert!(same.per_second("/totals/delivered").abs() < 1e-9);
    }

    /// Goal: the picture fits a terminal of 80 columns and 24 rows, with the greatest numbers that can be. Method: every
    /// total, room and shard is enormous, and names are as long as they may be.
    #[test]
    fn the_picture_fits() {
        let shard = json!({"shard": 127, "connections": u32::MAX, "cpu_ms": 1_000});
        let room = json!({"viewers": u32::MAX, "per_minute": u32::MAX, "id": "ABCDEFGHIJKL", "name": "n".repeat(128)});
        let stats = |grown: u64| {
            let totals: serde_json::Map<String, Value> = [
                "opened",
                "closed",
                "received",
                "refused",
                "delivered",
                "shed",
                "bytes_received",
                "bytes_sent",
            ]
            .map(|key| (key.to_owned(), grown.into()))
            .into_iter()
            .collect();
            json!({
                "pid": u32::MAX, "version": "10.20.30-rc.1", "uptime_ms": 1000 + grown / 1_000_000_000,
                "state": "serving", "ready": true, "viewers": u32::MAX, "viewers_max": u32::MAX,
                "rooms": u32::MAX, "handshakes": u32::MAX, "totals": totals, "shards": vec![shard.clone(); 128],
                "memory": {"resident": 1_u64 << 40, "room_logs": 1_u64 << 40, "connections": 1_u64 << 40, "used_tokens": 1_u64 << 40},
                "fanout": {"bounds_us": [1_000, 2_000], "counts": [grown, grown, grown]},
                "cluster": {"name": "c".repeat(64), "node": "n".repeat(64), "nodes": 64, "slots_home": 256, "slots": 256, "unready": "u".repeat(300)},
            })
        };
        let rooms = Value::from(vec![room; 20]);
        let look = Look {
            before: stats(0),
            stats: stats(1_000_000_000_000),
            by_viewers: rooms.clone(),
            by_rate: rooms,
        };
        for (columns, rows) in [(80, 24), (80, usize::MAX), (40, 10), (200, 60)] {
            let lines = view(&look, columns, rows);
            assert!(lines.len() <= rows, "{} rows", lines.len());
            for line in lines {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }
}
