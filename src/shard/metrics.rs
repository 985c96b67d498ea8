//! Counters of a shard: written by its thread alone, read by the thread that renders `/metrics`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::close_reason::CloseReason;

/// A figure with one writer.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds `by`; one writer, so no locked instruction is needed.
    pub fn add(&self, by: u64) {
        self.0.store(self.get().wrapping_add(by), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the figure.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    (
        $($field:ident: $kind:literal $name:literal $labels:literal, $help:literal;)*
        @apart $($apart:ident, $apart_help:literal;)*
    ) => {
        /// All figures of one shard.
        #[derive(Debug, Default)]
        pub struct ShardMetrics {
            $(#[doc = $help] pub $field: Figure,)*
            $(#[doc = $apart_help] pub $apart: Figure,)*
            // One for each reason, at its position in `CloseReason::ALL`.
            closed: [Figure; CloseReason::ALL.len()],
        }

        fn render_sums(shards: &[Arc<ShardMetrics>], out: &mut String) {
            let mut described = "";
            $(
                if described != $name {
                    described = $name;
                    let _infallible = writeln!(out, "# HELP uproar_{} {}", $name, $help);
                    let _infallible = writeln!(out, "# TYPE uproar_{} {}", $name, $kind);
                }
                let sum: u64 = shards.iter().map(|shard| shard.$field.get()).sum();
                let _infallible = writeln!(out, "uproar_{}{} {sum}", $name, $labels);
            )*
            let _last = described;
        }
    };
}

impl ShardMetrics {
    /// The counter of connections that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> &Figure {
        &self.closed[reason as usize]
    }
}

/// Appends the figures of all shards in Prometheus' text format: sums, and connections by shard, which show
/// how evenly connections are spread.
pub fn render(shards: &[Arc<ShardMetrics>], out: &mut String) {
    render_sums(shards, out);
    out.push_str("# HELP uproar_connections_closed_total Connections that ended.\n");
    out.push_str("# TYPE uproar_connections_closed_total counter\n");
    for reason in CloseReason::ALL {
        let sum: u64 = shards.iter().map(|shard| shard.closed(reason).get()).sum();
        let label = reason.label();
        let _infallible = writeln!(
            out,
            "uproar_connections_closed_total{{reason=\"{label}\"}} {sum}"
        );
    }
    let nanos: u64 = shards.iter().map(|shard| shard.send_cost_nanos.get()).sum();
    let seconds = Duration::from_nanos(nanos).as_secs_f64();
    out.push_str(
        "# HELP uproar_send_cost_seconds Measured cost of one short send, summed over shards.\n",
    );
    let _infallible = writeln!(
        out,
        "# TYPE uproar_send_cost_seconds gauge\nuproar_send_cost_seconds {seconds}"
    );
    out.push_str("# HELP uproar_shard_connections Established connections of one shard.\n");
    out.push_str("# TYPE uproar_shard_connections gauge\n");
    for (shard, metrics) in shards.iter().enumerate() {
        let open = metrics.connections.get();
        let _infallible = writeln!(out, "uproar_shard_connections{{shard=\"{shard}\"}} {open}");
    }
}

metrics! {
    connections: "gauge" "connections" "", "Established connections.";
    opened: "counter" "connections_opened_total" "", "Connections that were established.";
    opened_deflated: "counter" "connections_compressed_total" "", "Connections that agreed to compression.";
    rejected_malformed: "counter" "handshakes_rejected_total" "{reason=\"malformed\"}", "Handshakes refused.";
    rejected_missing: "counter" "handshakes_rejected_total" "{reason=\"missing_token\"}", "Handshakes refused.";
    rejected_token: "counter" "handshakes_rejected_total" "{reason=\"bad_token\"}", "Handshakes refused.";
    rejected_expired: "counter" "handshakes_rejected_total" "{reason=\"expired_token\"}", "Handshakes refused.";
    rejected_used: "counter" "handshakes_rejected_total" "{reason=\"used_token\"}", "Handshakes refused.";
    rejected_room: "counter" "handshakes_rejected_total" "{reason=\"no_room\"}", "Handshakes refused.";
    rejected_limit: "counter" "handshakes_rejected_total" "{reason=\"limit\"}", "Handshakes refused.";
    rejected_address: "counter" "handshakes_rejected_total" "{reason=\"address\"}", "Handshakes refused.";
    rejected_displaced: "counter" "handshakes_rejected_total" "{reason=\"displaced\"}", "Handshakes refused.";
    rejected_origin: "counter" "handshakes_rejected_total" "{reason=\"origin\"}", "Handshakes refused.";
    rejected_timeout: "counter" "handshakes_rejected_total" "{reason=\"timeout\"}", "Handshakes refused.";
    rejected_tls: "counter" "handshakes_rejected_total" "{reason=\"tls\"}", "Handshakes refused.";
    rejected_gone: "counter" "handshakes_rejected_total" "{reason=\"gone\"}", "Handshakes refused.";
    rejected_unanswered: "counter" "handshakes_unanswered_total" "", "Refused handshakes without an answer: their address had too many.";
    handshakes: "gauge" "handshakes" "", "Handshakes in progress, and refused ones that are not closed yet.";
    accept_errors: "counter" "accept_errors_total" "", "Accepts that failed, for want of descriptors above all.";
    received_send: "counter" "messages_received_total" "{action=\"send\"}", "Publish requests accepted.";
    received_delete: "counter" "messages_received_total" "{action=\"delete\"}", "Publish requests accepted.";
    received_disconnect: "counter" "messages_received_total" "{action=\"disconnect\"}", "Publish requests accepted.";
    rejected_400: "counter" "messages_rejected_total" "{code=\"400\"}", "Publish requests refused.";
    rejected_403: "counter" "messages_rejected_total" "{code=\"403\"}", "Publish requests refused.";
    rejected_404: "counter" "messages_rejected_total" "{code=\"404\"}", "Publish requests refused.";
    rejected_406: "counter" "messages_rejected_total" "{code=\"406\"}", "Publish requests refused.";
    rejected_413: "counter" "messages_rejected_total" "{code=\"413\"}", "Publish requests refused.";
    rejected_429: "counter" "messages_rejected_total" "{code=\"429\"}", "Publish requests refused.";
    rejected_other: "counter" "messages_rejected_total" "{code=\"other\"}", "Publish requests refused.";
    bytes_received: "counter" "bytes_received_total" "", "Bytes received on established connections.";
    bytes_sent: "counter" "bytes_sent_total" "", "Bytes the kernel took.";
    frames_delivered: "counter" "messages_delivered_total" "", "Frames of room logs handed to the kernel, counted for each receiver.";
    frames_skipped: "counter" "messages_shed_total" "{policy=\"skip\"}", "Frames that slow clients did not get.";
    deflated: "counter" "messages_compressed_total" "", "Messages and events compressed, once each for all receivers.";
    deflate_saved: "counter" "bytes_saved_total" "", "Bytes that compression saved, counted for each receiver.";
    sends: "counter" "sends_total" "", "Send operations submitted.";
    turns: "counter" "loop_turns_total" "", "Turns of the shard's loop.";
    receive_rearmed: "counter" "receive_rearmed_total" "", "Multishot receives armed again, for want of buffers above all.";
    tokens_remembered: "gauge" "tokens_remembered" "", "Used tokens that have not expired.";
    journal_bytes: "gauge" "token_journal_bytes" "", "Bytes of the journals of used tokens on disk.";
    mailbox_full: "counter" "mailbox_full_total" "", "Requests and handshakes refused because the mailbox to the room's shard was full.";
    mailbox_kept: "gauge" "mailbox_kept_commands" "", "Commands that wait for room in a full mailbox.";
    rings: "gauge" "rings" "", "Rings of all shards, each with a table of connections.";
    cq_overflow: "counter" "uring_cq_overflow_total" "", "Completions the kernel kept aside.";
    journal_errors: "counter" "journal_errors_total" "", "Token uses that could not be recorded.";
    review_held: "gauge" "review_held_messages" "", "Messages of reviewed rooms that wait for their verdict, or behind one that does.";
    review_allowed: "counter" "review_messages_total" "{outcome=\"allowed\"}", "Messages of reviewed rooms that were decided.";
    review_denied: "counter" "review_messages_total" "{outcome=\"denied\"}", "Messages of reviewed rooms that were decided.";
    review_expired: "counter" "review_deadlines_total" "", "Messages that the room's fallback decided because no verdict came in time.";
    review_shed: "counter" "review_shed_total" "", "Messages that the fallback decided at once: the mailbox to the control thread was full.";
    log_late: "counter" "log_frames_late_total" "", "Frames of logged rooms delivered before they were in the spool: its disk stalled.";
    log_missed: "counter" "log_frames_missed_total" "", "Frames delivered but not logged: the archive did not keep up.";
    rooms: "gauge" "rooms" "", "Rooms known to their home shards.";
    @apart
    send_cost_nanos, "Measured cost of one short send, in nanoseconds.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each reason has a counter of its own, under its label. Method: count one end for each reason.
    #[test]
    fn each_reason_is_counted_under_its_label() {
        for reason in CloseReason::ALL {
            let metrics = ShardMetrics::default();
            metrics.closed(reason).inc();
            let mut text = String::new();
            render(&[Arc::new(metrics)], &mut text);
            let counted: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("uproar_connections_closed_total{"))
                .filter(|line| line.ends_with(" 1"))
                .collect();
            let label = reason.label();
            let line = format!("uproar_connections_closed_total{{reason=\"{label}\"}} 1");
            assert_eq!(counted, [line]);
        }
    }
}
