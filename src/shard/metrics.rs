//! Counters of a shard: written by its thread alone, read by the thread that renders `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use crate::exposition::{Exposition, Family, Labels};

pub use super::figure::{Figure, Peak};

use super::close_reason::CloseReason;
use super::room_sizes::{self, RoomSizes, SIZES};
use super::rule_times::RuleTimes;
use super::times::{LongObserved, LongTimes, Observed, Times};
use uproar_proto::base::limits::{
    RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, RECEIVE_BUFFERS_FURTHER, RINGS_MAX, USED_TOKENS_MAX,
};

/// A series on the page of metrics: the sum of one figure of all shards.
struct Row {
    family: Family,
    labels: Labels<'static>,
    figure: fn(&ShardMetrics) -> &Figure,
}

macro_rules! metrics {
    (
        $($field:ident: $kind:ident $name:literal $([$($label:ident = $value:literal),+])?, $help:literal;)*
        @apart $($apart:ident, $apart_help:literal;)*
    ) => {
        /// All figures of one shard.
        #[derive(Debug, Default)]
        pub struct ShardMetrics {
            $(#[doc = $help] pub $field: Figure,)*
            $(#[doc = $apart_help] pub $apart: Figure,)*
            /// From a message's acceptance to its room's last send on this shard, by the [size](super::room_sizes) of the room there.
            pub fanout: [Times; SIZES.len()],
            /// From a message's acceptance to the end of a send of it: samples.
            pub delivery: Times,
            /// From the acceptance of a deletion or disconnect to its room's last send on this shard.
            pub moderation: Times,
            /// From an accept to the admission.
            pub handshake: Times,
            /// The longest turn since it was last taken, in nanoseconds.
            pub longest_turn: Peak,
            /// Most items that waited in the shard's mailboxes when a turn began, since it was last taken.
            pub mailbox_depth: Peak,
            /// From the admission of a connection to its end.
            pub lifetimes: LongTimes,
            /// How many rooms there are of each size.
            pub room_sizes: RoomSizes,
            /// What rules took to judge messages.
            pub rules: RuleTimes,
            // One for each reason, at its position in `CloseReason::ALL`.
            closed: [Figure; CloseReason::ALL.len()],
        }

        /// Rows of one family follow each other.
        const ROWS: &[Row] = &[$(Row {
            family: Family::$kind(concat!("uproar_", $name), $help),
            labels: &[$($((stringify!($label), $value)),+)?],
            figure: |shard| &shard.$field,
        },)*];
    };
}

impl ShardMetrics {
    /// Counts a connection that ended for `reason` after this time.
    pub fn ended(&self, reason: CloseReason, lived: Duration) {
        self.closed(reason).inc();
        self.lifetimes.observe(lived);
    }

    /// The counter of connections that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> &Figure {
        &self.closed[reason.index()]
    }
}

/// The times of all rooms' fan-out together.
pub fn fanout(shards: &[Arc<ShardMetrics>]) -> Observed {
    Observed::of(shards.iter().flat_map(|shard| &shard.fanout))
}

fn render_times(shards: &[Arc<ShardMetrics>], page: &mut Exposition) {
    let mut fanout = page.family(&FANOUT);
    for (class, (size, _)) in SIZES.iter().enumerate() {
        let times = shards.iter().filter_map(|shard| shard.fanout.get(class));
        Observed::of(times).render(&mut fanout, &[("size", size)]);
    }
    let delivery = Observed::of(shards.iter().map(|shard| &shard.delivery));
    delivery.render(&mut page.family(&DELIVERY), &[]);
    let handshake = Observed::of(shards.iter().map(|shard| &shard.handshake));
    handshake.render(&mut page.family(&HANDSHAKE), &[]);
    let moderation = Observed::of(shards.iter().map(|shard| &shard.moderation));
    moderation.render(&mut page.family(&MODERATION), &[]);
    RuleTimes::render(shards.iter().map(|shard| &shard.rules), page);
    let mut areas = page.family(&MEMORY);
    for (area, bytes) in memory(shards) {
        areas.add(&[("area", area)], bytes);
    }
}

/// Memory by area, in bytes, as `/metrics` has it.
pub fn memory(shards: &[Arc<ShardMetrics>]) -> [(&'static str, u64); 5] {
    let sum = |figure: fn(&ShardMetrics) -> &Figure| -> u64 {
        shards.iter().map(|shard| figure(shard).get()).sum()
    };
    [
        ("room_logs", sum(|shard| &shard.log_bytes)),
        (
            "connections",
            sum(|shard| &shard.connections) * CONNECTION_BYTES,
        ),
        (
            "used_tokens",
            sum(|shard| &shard.tokens_remembered) * TOKEN_BYTES,
        ),
        ("history", sum(|shard| &shard.remembered_bytes)),
        (
            "receive_buffers",
            shards.iter().map(|shard| receive_bytes(shard)).sum(),
        ),
    ]
}

/// What a shard's rings receive into.
fn receive_bytes(shard: &ShardMetrics) -> u64 {
    let rings = shard.rings.get();
    let buffers = rings.min(1) * u64::from(RECEIVE_BUFFERS)
        + rings.saturating_sub(1) * u64::from(RECEIVE_BUFFERS_FURTHER);
    buffers * u64::try_from(RECEIVE_BUFFER_BYTES).expect("a page")
}

/// An idle connection's entry, its sender and its place in its room's audience (README.md).
const CONNECTION_BYTES: u64 = 300;
/// A used token's entry.
const TOKEN_BYTES: u64 = 48;
const FANOUT: Family = Family::histogram(
    "uproar_fanout_seconds",
    "Time from a message's acceptance until the last send of its room on a shard is submitted, by the room's members there.",
);
const DELIVERY: Family = Family::histogram(
    "uproar_delivery_seconds",
    "Time from a message's acceptance until the kernel has taken it for the last member of a room: samples.",
);
const MODERATION: Family = Family::histogram(
    "uproar_moderation_seconds",
    "Time from the acceptance of a deletion, a purge or a disconnect until the last member of its room on a shard is sent it.",
);
const HANDSHAKE: Family = Family::histogram(
    "uproar_handshake_seconds",
    "Time from the accept of a connection to its admission.",
);
const MEMORY: Family = Family::gauge("uproar_memory_bytes", "Memory in use, by area, in bytes.");

/// Adds the figures of all shards to `/metrics`: sums, and connections by shard, which show how
/// evenly connections are spread.
pub fn render(shards: &[Arc<ShardMetrics>], page: &mut Exposition) {
    let sum = |figure: &dyn Fn(&ShardMetrics) -> &Figure| -> u64 {
        shards.iter().map(|shard| figure(shard).get()).sum()
    };
    for rows in ROWS.chunk_by(|one, next| one.family == next.family) {
        let mut series = page.family(&rows[0].family);
        for row in rows {
            series.add(row.labels, sum(&row.figure));
        }
    }
    let mut closed = page.family(&CLOSED);
    for reason in CloseReason::ALL {
        closed.add(
            &[("reason", reason.label())],
            sum(&|shard| shard.closed(reason)),
        );
    }
    let lifetimes = LongObserved::of(shards.iter().map(|shard| &shard.lifetimes));
    lifetimes.render(&mut page.family(&LIFETIME), &[]);
    let cost = Duration::from_nanos(sum(&|shard| &shard.send_cost_nanos));
    page.single(&SEND_COST, cost.as_secs_f64());
    render_shards(shards, page);
    room_sizes::render(shards.iter().map(|shard| &shard.room_sizes), page);
    let count = u64::try_from(shards.len()).expect("at most 1024");
    let tokens = u64::try_from(USED_TOKENS_MAX).expect("millions");
    page.single(&TOKENS_LIMIT, count * tokens);
    page.single(&RINGS_LIMIT, count * u64::from(RINGS_MAX));
    render_times(shards, page);
}

/// Adds what tells a shard that is worse off than the others.
fn render_shards(shards: &[Arc<ShardMetrics>], page: &mut Exposition) {
    let names: Vec<_> = (0..shards.len()).map(|shard| shard.to_string()).collect();
    let each = || names.iter().map(String::as_str).zip(shards);
    let mut connections = page.family(&SHARD_CONNECTIONS);
    for (shard, metrics) in each() {
        connections.add(&[("shard", shard)], metrics.connections.get());
    }
    let mut unsent = page.family(&UNSENT_AGE);
    for (shard, metrics) in each() {
        let age = Duration::from_millis(metrics.unsent_millis.get());
        unsent.add(&[("shard", shard)], age.as_secs_f64());
    }
    let mut fanout = page.family(&SHARD_FANOUT);
    for (shard, metrics) in each() {
        Observed::of(&metrics.fanout).render(&mut fanout, &[("shard", shard)]);
    }
}

const UNSENT_AGE: Family = Family::gauge(
    "uproar_unsent_message_age_seconds",
    "Age of the oldest message that is not sent to all members of its room on a shard, as of the last second.",
);
const SHARD_FANOUT: Family = Family::histogram(
    "uproar_shard_fanout_seconds",
    "Time from a message's acceptance until the last send of its room on a shard is submitted, by the shard.",
);
const TOKENS_LIMIT: Family = Family::gauge(
    "uproar_tokens_remembered_max",
    "Used tokens that all shards together can remember; newcomers beyond it are refused.",
);
const RINGS_LIMIT: Family = Family::gauge(
    "uproar_rings_max",
    "Rings that all shards together may have.",
);
const CLOSED: Family = Family::counter(
    "uproar_connections_closed_total",
    "Connections that ended, by reason.",
);
const LIFETIME: Family = Family::histogram(
    "uproar_connection_lifetime_seconds",
    "Time from the admission of a connection to its end, in seconds.",
);
const SEND_COST: Family = Family::gauge(
    "uproar_send_cost_seconds",
    "Measured cost of one short send, in seconds, summed over shards.",
);
const SHARD_CONNECTIONS: Family = Family::gauge(
    "uproar_shard_connections",
    "Established connections of one shard.",
);

metrics! {
    connections: gauge "connections", "Established connections.";
    opened: counter "connections_opened_total", "Connections that were established.";
    opened_deflated: counter "connections_compressed_total", "Connections that agreed to compression.";
    tls_full: counter "tls_handshakes_total" [kind = "full"], "TLS handshakes of viewers, by whether they resumed an earlier session.";
    tls_resumed: counter "tls_handshakes_total" [kind = "resumed"], "TLS handshakes of viewers, by whether they resumed an earlier session.";
    rejected_malformed: counter "handshakes_rejected_total" [reason = "malformed"], "Handshakes that were refused, by reason.";
    rejected_missing: counter "handshakes_rejected_total" [reason = "missing_token"], "Handshakes that were refused, by reason.";
    rejected_token: counter "handshakes_rejected_total" [reason = "bad_token"], "Handshakes that were refused, by reason.";
    rejected_expired: counter "handshakes_rejected_total" [reason = "expired_token"], "Handshakes that were refused, by reason.";
    rejected_used: counter "handshakes_rejected_total" [reason = "used_token"], "Handshakes that were refused, by reason.";
    rejected_room: counter "handshakes_rejected_total" [reason = "no_room"], "Handshakes that were refused, by reason.";
    rejected_limit: counter "handshakes_rejected_total" [reason = "limit"], "Handshakes that were refused, by reason.";
    rejected_address: counter "handshakes_rejected_total" [reason = "address"], "Handshakes that were refused, by reason.";
    rejected_displaced: counter "handshakes_rejected_total" [reason = "displaced"], "Handshakes that were refused, by reason.";
    rejected_origin: counter "handshakes_rejected_total" [reason = "origin"], "Handshakes that were refused, by reason.";
    rejected_timeout: counter "handshakes_rejected_total" [reason = "timeout"], "Handshakes that were refused, by reason.";
    rejected_closing: counter "handshakes_rejected_total" [reason = "closing"], "Handshakes that were refused, by reason.";
    rejected_tls: counter "handshakes_rejected_total" [reason = "tls"], "Handshakes that were refused, by reason.";
    rejected_gone: counter "handshakes_rejected_total" [reason = "gone"], "Handshakes that were refused, by reason.";
    rejected_unconfirmed: counter "handshakes_rejected_total" [reason = "unconfirmed"], "Handshakes that were refused, by reason.";
    rejected_banned: counter "handshakes_rejected_total" [reason = "banned"], "Handshakes that were refused, by reason.";
    rejected_unanswered: counter "handshakes_unanswered_total", "Refused handshakes without an answer: their address had too many.";
    handshakes: gauge "handshakes", "Handshakes in progress, and refused ones that are not closed yet.";
    handshakes_max: gauge "handshakes_max", "Handshakes that the shards take at most; beyond it the oldest one is closed.";
    accept_errors: counter "accept_errors_total", "Accepts that failed, mostly for lack of descriptors.";
    received_send: counter "messages_received_total" [action = "send"], "Publish requests that were accepted, by action.";
    received_delete: counter "messages_received_total" [action = "delete"], "Publish requests that were accepted, by action.";
    received_disconnect: counter "messages_received_total" [action = "disconnect"], "Publish requests that were accepted, by action.";
    rejected_400: counter "messages_rejected_total" [code = "400"], "Publish requests that were refused, by error code.";
    rejected_403: counter "messages_rejected_total" [code = "403"], "Publish requests that were refused, by error code.";
    rejected_404: counter "messages_rejected_total" [code = "404"], "Publish requests that were refused, by error code.";
    rejected_406: counter "messages_rejected_total" [code = "406"], "Publish requests that were refused, by error code.";
    rejected_413: counter "messages_rejected_total" [code = "413"], "Publish requests that were refused, by error code.";
    rejected_429: counter "messages_rejected_total" [code = "429"], "Publish requests that were refused, by error code.";
    rejected_other: counter "messages_rejected_total" [code = "other"], "Publish requests that were refused, by error code.";
    rejected_slow: counter "messages_rejected_total" [code = "429", reason = "slow"], "Publish requests that were refused, by error code.";
    rejected_unique: counter "messages_rejected_total" [code = "406", reason = "unique"], "Publish requests that were refused, by error code.";
    rejected_talk: counter "messages_rejected_total" [code = "403", reason = "talk"], "Publish requests that were refused, by error code.";
    rejected_age: counter "messages_rejected_total" [code = "403", reason = "age"], "Publish requests that were refused, by error code.";
    rejected_emotes: counter "messages_rejected_total" [code = "406", reason = "emotes"], "Publish requests that were refused, by error code.";
    rejected_timed_out: counter "messages_rejected_total" [code = "403", reason = "timeout"], "Publish requests that were refused, by error code.";
    kick_bans_lost: counter "kick_bans_lost_total", "Kicks in rooms with uproar:kick, and rules, that banned nobody: the control thread had too many orders.";
    shadowed: counter "shadowed_messages_total", "Messages that their senders alone got: a ban keeps them from the room.";
    bytes_received: counter "bytes_received_total", "Bytes received on established connections.";
    bytes_sent: counter "bytes_sent_total", "Bytes for viewers that the kernel accepted.";
    frames_delivered: counter "messages_delivered_total", "Frames of room logs handed to the kernel, counted for each receiver.";
    frames_skipped: counter "messages_shed_total" [policy = "skip"], "Frames that slow clients did not get.";
    deflated: counter "messages_compressed_total", "Messages and events compressed, once each for all receivers.";
    deflate_saved: counter "bytes_saved_total", "Bytes that compression saved, counted for each receiver.";
    user_events: counter "user_events_total", "Events for one user, counted for each connection they were sent through.";
    sends: counter "sends_total", "Send operations submitted to the kernel.";
    turns: counter "loop_turns_total", "Turns of all shards' loops.";
    receive_rearmed: counter "receive_rearmed_total", "Multishot receives that were started again, mostly for lack of buffers.";
    tokens_remembered: gauge "tokens_remembered", "Used tokens that have not expired.";
    journal_bytes: gauge "token_journal_bytes", "Bytes of the journals of used tokens on disk.";
    mailbox_full: counter "mailbox_full_total", "Requests and handshakes refused because the mailbox to the room's shard was full.";
    mailbox_kept: gauge "mailbox_kept_commands", "Commands that wait for space in a full mailbox.";
    rings: gauge "rings", "Rings of all shards, each with a table of connections.";
    cq_overflow: counter "uring_cq_overflow_total", "Completions that did not fit the completion queue; the kernel kept them.";
    journal_errors: counter "journal_errors_total", "Token uses that could not be recorded.";
    review_held: gauge "review_held_messages", "Messages of reviewed rooms that wait for their verdict, or behind one that does.";
    review_allowed: counter "review_messages_total" [outcome = "allowed"], "Messages of reviewed rooms that were decided, by outcome.";
    review_denied: counter "review_messages_total" [outcome = "denied"], "Messages of reviewed rooms that were decided, by outcome.";
    review_expired: counter "review_deadlines_total", "Messages that the room's fallback decided because no verdict came in time.";
    review_shed: counter "review_shed_total", "Messages that the fallback decided at once: the mailbox to the control thread was full.";
    log_late: counter "log_frames_late_total", "Frames of logged rooms delivered before they were in the spool: its disk stalled.";
    log_missed: counter "log_frames_missed_total", "Frames delivered but not logged: the archive did not keep up.";
    cluster_waiting: gauge "cluster_requests_waiting", "Requests of this node's members and API that the cluster has not answered.";
    cluster_parked: gauge "cluster_joins_parked", "Handshakes that wait for the cluster's word on their token.";
    cluster_authored: counter "cluster_requests_authored_total", "Requests that this node, as home of their hash slot, gave their place in the log.";
    cluster_adopted: counter "cluster_frames_adopted_total", "Frames of the cluster's log appended to rooms here.";
    cluster_recalled: counter "cluster_recalled_messages_total", "Messages that rooms here remember because another node remembered them when this one began.";
    cluster_dropped: counter "cluster_frames_dropped_total", "Frames of the cluster's log for rooms that this node did not know, and unreadable ones.";
    mode_records: gauge "chat_mode_records", "Users and texts that chat modes remember, as of the last second.";
    mode_forgotten: counter "chat_mode_records_forgotten_total", "Users and texts that chat modes forgot before their time: the shard remembers as many as it may.";
    votes_counted: counter "tally_votes_total" [result = "counted"], "Votes of members, by what became of them.";
    votes_changed: counter "tally_votes_total" [result = "changed"], "Votes of members, by what became of them.";
    votes_again: counter "tally_votes_total" [result = "again"], "Votes of members, by what became of them.";
    votes_role: counter "tally_votes_total" [result = "role"], "Votes of members, by what became of them.";
    votes_option: counter "tally_votes_total" [result = "option"], "Votes of members, by what became of them.";
    votes_closed: counter "tally_votes_total" [result = "closed"], "Votes of members, by what became of them.";
    votes_full: counter "tally_votes_total" [result = "full"], "Votes of members, by what became of them.";
    tallies_open: gauge "tallies_open", "Open tallies of rooms that are counted here.";
    tally_voters: gauge "tally_voters", "Voters that open tallies remember.";
    reactions: counter "reactions_total", "Taps of members' reactions.";
    held_for_crew: gauge "held", "Messages that rules hold until a moderator decides.";
    held_over: counter "held_expired_total", "Messages that were held and denied because nobody decided in time.";
    after_shed: counter "after_review_shed_total", "Messages that were not reviewed after their delivery: the mailbox to the control thread was full.";
    stands: gauge "resume_places", "Viewers of whom rooms remember where they stand or stood.";
    stands_forgotten: counter "resume_places_forgotten_total", "Viewers whose place was forgotten before its time: the shard remembers as many as it may.";
    history_full: counter "history_joins_total" [result = "full"], "Joins of rooms that remember messages, by what they got.";
    history_short: counter "history_joins_total" [result = "short"], "Joins of rooms that remember messages, by what they got.";
    history_resumed: counter "history_joins_total" [result = "resumed"], "Joins of rooms that remember messages, by what they got.";
    history_none: counter "history_joins_total" [result = "none"], "Joins of rooms that remember messages, by what they got.";
    history_bytes: counter "history_bytes_total", "Bytes of remembered messages for joining viewers.";
    redacted: counter "redacted_messages_total", "Messages that were taken back from memories and from batches not yet sent.";
    purged: counter "purged_total", "Remembered messages that were taken back because all of a user, or of a room, were.";
    rooms: gauge "rooms", "Rooms known to their home shards.";
    @apart
    unsent_millis, "Age of the oldest message that is not sent to all members of its room here, as of the last second.";
    log_bytes, "Bytes of room logs, as of the last second.";
    remembered_bytes, "Bytes of remembered messages.";
    cpu_nanos, "CPU time of the shard's thread, as of its last busy second, in nanoseconds.";
    open, "Connections whose session goes on: neither closing, nor cut.";
    send_cost_nanos, "Measured cost of one short send, in nanoseconds.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each reason has a counter of its own, under its label. Method: count one end for each
    /// reason.
    #[test]
    fn each_reason_is_counted_under_its_label() {
        for reason in CloseReason::ALL {
            let metrics = ShardMetrics::default();
            metrics.closed(reason).inc();
            let mut page = Exposition::new();
            render(&[Arc::new(metrics)], &mut page);
            let text = page.into_text();
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
