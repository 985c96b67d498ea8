//! A number of connections that was not made, calculated from the steps that were.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::Stage;

/// The cost of a number of connections. It is not measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calculated {
    connections: f64,
    /// Memory of the server's process, in bytes.
    server_bytes: f64,
    /// Memory of the kernel, both ends on this machine, in bytes.
    kernel_bytes: f64,
    /// Until all are connected.
    connecting: Duration,
    /// Until a message has reached the last one.
    reach: Duration,
}

impl Calculated {
    /// Calculates from the last complete step and its difference from the one before: memory and
    /// time grow on as they grew between these. `None` without a complete step.
    pub(super) fn from(stages: &[Stage], connections: f64) -> Option<Self> {
        // A step in which the server refused viewers says nothing about one in which it does not.
        let complete = stages.iter().filter(|stage| !stage.connecting.gave_up);
        let complete: Vec<_> = complete.collect();
        let (last, earlier) = complete.split_last()?;
        let held = last.held as f64;
        let more = connections - held;
        let (each, one_more) = (last.memory_each, last.memory_more);
        let reached = |stage: &Stage| Some(stage.reach()?.as_secs_f64());
        let reach = reached(last)?;
        let slope = earlier.last().and_then(|before| {
            let slope = (reach - reached(before)?) / (held - before.held as f64);
            // A negative slope is noise, not a gain: then every connection takes the same.
            (slope > 0.0).then_some(slope)
        });
        let connecting = complete.iter().map(|stage| stage.connecting.took);
        let connecting =
            connecting.sum::<Duration>().as_secs_f64() + more / last.connecting.per_second();
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Some(Self {
            connections,
            server_bytes: each.server * held + one_more.server * more,
            kernel_bytes: each.kernel() * held + one_more.kernel() * more,
            connecting: seconds(connecting),
            reach: seconds(reach + slope.unwrap_or(reach / held) * more),
        })
    }

    pub(super) fn line(&self) -> String {
        format!(
            "by calculation, not measured: {} connections would take {:.2} GB of the server's memory, {:.1} GB of \
             the kernel's for both ends on this machine, {:.0} s to connect and {:.1} s for a message to reach the last",
            self.connections,
            self.server_bytes / 1e9,
            self.kernel_bytes / 1e9,
            self.connecting.as_secs_f64(),
            self.reach.as_secs_f64()
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "server_bytes": self.server_bytes.round(),
            "kernel_bytes_both_ends": self.kernel_bytes.round(),
            "connecting_ms": self.connecting.as_millis(),
            "last_ms": self.reach.as_millis(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Busy, Message, StepConnections};
    use super::*;
    use crate::crowd::memory::Memory;
    use crate::harness::ages::Ages;

    fn stage(held: usize, opened: usize, last_micros: u64) -> Stage {
        let memory = |server| Memory {
            server,
            ..Memory::default()
        };
        Stage {
            held,
            connecting: StepConnections {
                opened,
                took: Duration::from_secs(1),
                ..StepConnections::default()
            },
            memory_each: memory(300.0),
            memory_more: memory(200.0),
            messages: vec![Message {
                wanted: held as u64,
                lost: 0,
                first: Duration::ZERO,
                ages: Ages {
                    max: last_micros,
                    ..Ages::default()
                },
                pass_max: Duration::ZERO,
                frame_bytes: 386.0,
                busy: Busy::default(),
            }],
            stray_bytes: 0,
            gone: 0,
        }
    }

    /// Goal: more connections are calculated from the last step, by the slope between the last two.
    #[test]
    fn the_slope_goes_on() {
        let stages = [stage(1000, 1000, 100_000), stage(2000, 1000, 250_000)];
        let found = Calculated::from(&stages, 10_000.0).expect("two steps");
        assert!((found.server_bytes - (2000.0 * 300.0 + 8000.0 * 200.0)).abs() < 1.0);
        assert_eq!(found.connecting, Duration::from_secs(10));
        assert_eq!(found.reach.as_millis(), 250 + 8 * 150);
        assert!(Calculated::from(&[], 1.0).is_none());
        // A step that was not completed is left out.
        let mut short = stage(2001, 1, 1);
        short.connecting.gave_up = true;
        let with = Calculated::from(
            &[stages[0].clone(), stages[1].clone(), short.clone()],
            10_000.0,
        );
        assert_eq!(with.expect("two steps").reach, found.reach);
        assert!(Calculated::from(&[short], 1.0).is_none());
        // A slope downhill is noise.
        let noise = Calculated::from(
            &[stage(1000, 1000, 100_000), stage(2000, 1000, 90_000)],
            4000.0,
        );
        assert_eq!(noise.expect("two steps").reach.as_millis(), 180);
    }
}
