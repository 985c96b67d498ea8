//! Every bound of the server in one place: name, unit, reason. The code that enforces a bound
//! decides what happens there and counts it in a metric. Bounds check each other at compile time.
//!
//! docs/limits.md lists each of them (`tests/architecture` compares).

use std::time::Duration;

pub use self::extensions::*;

mod extensions;

// ---- Messaging: what a client may send (contract §1.4, §1.11) ----

/// Longest message text, in Unicode code points; a room's `maximumMessageLength` may lower it.
pub const CONTENT_CHARS_MAX: usize = 500;
/// Message, token and event attributes: keys and values together, in UTF-8 bytes (contract: 1 KB).
pub const ATTRIBUTES_BYTES_MAX: usize = 1024;
/// `RequestId`, in bytes. SDKs send 36; four times that leaves room for tracing ids.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Longest `RequestId` an ERROR echoes, in bytes as the client wrote it: a request may be refused
/// because its id is too long, and its sender still waits for that id. A longer id is not echoed at
/// all.
pub const REQUEST_ID_ECHOED_BYTES_MAX: usize = 1024;
/// `UserId`, in code points (contract §2).
pub const USER_ID_CHARS_MAX: usize = 128;
/// `Reason` of a deletion or a disconnect, in code points.
pub const REASON_CHARS_MAX: usize = 256;
/// `eventName`, in code points.
pub const EVENT_NAME_CHARS_MAX: usize = 100;
/// Largest WebSocket message a chat client may send, in bytes. Nothing legal exceeds about 6 KiB
/// (500 characters of 4 bytes, 1 KB attributes, ids, escapes); the rest is space for unknown keys.
/// A compressed message may not inflate to more either; the decoder checks while it inflates.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Largest WebSocket message that is skipped, in bytes, compressed or not: the server refuses it
/// with 413 and its `RequestId` and keeps the connection, since a large paste is a mistake, not an
/// attack. Only the id is kept. A longer message ends the connection.
pub const OVERSIZED_BYTES_MAX: usize = 128 * 1024;
/// Fragments of one WebSocket message, empty ones counted. Clients send one; this stops fragment
/// bombs.
pub const FRAGMENTS_MAX: u32 = 64;
/// Frames of one connection that are not accepted requests, per second: refused requests, binary
/// messages, pings, pongs, fragments before the last. A client that answers each ping and sends ten
/// messages a second in six fragments each needs 51.
pub const OVERHEAD_FRAMES_PER_SECOND: u32 = 100;
/// Such frames a connection may send at once. A program that sends everything in one loop gets an
/// answer to each refused request; beyond this its connection is closed, since it ignores the
/// answers.
pub const OVERHEAD_FRAMES_BURST: u32 = 1000;
/// Nesting of a chat request's JSON. A legal one needs 2; checked before parsing.
pub const JSON_DEPTH_MAX: usize = 16;
/// Members of one JSON object in a chat request: bounds the duplicate-key check.
pub const JSON_MEMBERS_MAX: usize = 64;

// ---- Handshake ----

/// Request head of the messaging listener, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one request head.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Token text in `Sec-WebSocket-Protocol`, in bytes: a full 1 KB of attributes and a 128-character
/// user id of four bytes each, sealed and base64url-encoded, is just under it.
pub const TOKEN_BYTES_MAX: usize = 3 * 1024;
/// Offers of permessage-deflate examined in one handshake; browsers make one, libraries two.
pub const EXTENSION_OFFERS_MAX: usize = 8;
/// From accept to `101`, TLS included; progress does not extend it (slowloris).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes in progress per shard; fewer if the limit on open files does not allow as many.
/// Connections whose complete request head arrives with accept are not counted; refused connections
/// count until they have read their answer. Beyond it a new connection replaces the oldest one.
pub const HANDSHAKES_MAX: usize = 4096;
/// Handshakes in progress for which each shard reserves descriptors, before any other use of them.
pub const HANDSHAKES_MIN: usize = 64;
/// Share of those handshakes one address may hold while the table is full, in percent: an address
/// above it loses its oldest handshakes first. A crowd behind one carrier address reaches it only
/// while the table is full, and then with 500 handshakes in progress; it loses none that completes
/// before 500 others have started.
pub const ADDRESS_HANDSHAKES_PERCENT: u32 = 12;
/// Refused handshakes of one address that get an answer, per second and shard; further ones are
/// closed without one. A stadium behind one carrier address, 60,000 viewers with expired tokens, is
/// answered within a minute. A valid token is always accepted: many users may share the address.
pub const ADDRESS_REFUSALS_PER_SECOND: u32 = 1000;
/// Connections each shard admits beyond its part of `messaging.address_connections`: connections
/// are spread over shards by chance, and four of five must not be refused for it.
pub const ADDRESS_CONNECTIONS_SLACK: usize = 16;
/// Addresses (IPv6: networks of 64 bits) one shard or listener tracks; about 100 bytes each. Beyond
/// it new addresses are not counted.
pub const ADDRESSES_MAX: usize = 262_144;
/// PROXY protocol header, in bytes. Addresses take 52 at most; the rest is for TLVs about TLS and
/// the proxy.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;
/// One read of the handshake, in bytes: a browser's head with a token is about 1.5 KB.
pub const HANDSHAKE_READ_BYTES: usize = 4096;
/// Connections accepted in one turn before deliveries run: half a millisecond of handshakes.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
/// How long the kernel waits for a connection's first bytes before it completes the accept without
/// them. A request follows its connect by one round trip; the kernel rounds to its own
/// retransmissions.
pub const ACCEPT_DEFERRED: Duration = Duration::from_secs(1);
/// Connections that wait in the kernel for accept, per listener; the kernel caps it at `somaxconn`.
pub const ACCEPT_BACKLOG: i32 = 4096;

/// How long the kernel keeps bytes that a client does not acknowledge, on an open connection or
/// after its close.
pub const UNACKNOWLEDGED_MAX: Duration = IDLE_MAX;

/// Ciphertext of one TLS connection without a complete record, in bytes: two records of 16 KiB and
/// their framing; handshake messages are far shorter.
pub const TLS_INCOMING_BYTES_MAX: usize = 36 * 1024;
/// Records in a row without content that a peer may send: they cost us and not the peer.
pub const TLS_EMPTY_RECORDS_MAX: u8 = 32;
/// First estimate of what TLS adds to a send, in bytes; grows when rustls asks for more.
pub const TLS_RECORD_OVERHEAD_BYTES: usize = 512;

/// How long one key seals session tickets; for as long again it opens them, then it is forgotten. Longer: more clients come back
/// without a full handshake, and a key that leaks opens more of what was recorded. Half a day is an evening's
/// viewers.
pub const TICKET_KEY_PERIOD: Duration = Duration::from_hours(6);
/// Session tickets sent after each handshake of TLS 1.3, some 250 bytes each. A chat client has one connection, so it needs one
/// for the next; the handshake of that brings another.
pub const TICKETS_A_HANDSHAKE: usize = 1;
/// Longest session in a ticket, in bytes: a host name, a secret and a protocol's name are 330 at most.
pub const TICKET_SESSION_BYTES_MAX: usize = 512;
/// Longest keys of tickets that another process hands over, in bytes: two keys, and room for what later versions add.
pub const TICKET_KEYS_BYTES_MAX: u64 = 4096;

/// Largest certificate or key file, in bytes: a hundred long chains.
pub const WATCHED_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a watched file that are compared to detect a change; a longer file's length is compared
/// as well. The maximum of access keys is 3 MB, with long names 5.
pub const COMPARED_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between two looks at a configuration that must find the same before a reload takes it: a tool writes
/// its next piece sooner.
pub const CONFIG_REST: Duration = Duration::from_millis(20);
/// Looks at a configuration that keeps changing, before a reload refuses it: a second of them.
pub const CONFIG_LOOKS_MAX: u32 = 50;
/// Certificates beside the first one. Each is looked at every second; somebody who has more names puts several into one, or a
/// proxy in front.
pub const TLS_MORE_CERTIFICATES_MAX: usize = 31;
/// The server warns of a certificate that expires sooner: tools renew 30 days before, so two weeks
/// have failed.
pub const CERTIFICATE_EXPIRY_NOTICE: Duration = Duration::from_hours(14 * 24);
/// Interval of warnings about a certificate that clients refuse, while nothing changes.
pub const CERTIFICATE_WARN_INTERVAL: Duration = Duration::from_hours(1);
/// Interval of warnings about a certificate that clients will refuse soon.
pub const CERTIFICATE_SOON_INTERVAL: Duration = Duration::from_hours(24);
/// Names of a certificate that a warning lists; the others are counted.
pub const CERTIFICATE_NAMES_MAX: usize = 5;
/// Names in one certificate that the server orders: what Let's Encrypt allows.
pub const ACME_DOMAINS_MAX: usize = 100;
/// Longest answer of a certificate authority, in bytes: a chain of certificates is a few KiB, a directory is one.
pub const ACME_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// From a call of a certificate authority to the end of its answer.
pub const ACME_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// From the beginning of an order to the certificate. Authorities look from several places, and sign within seconds; one that
/// takes longer is asked again.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_mins(5);
/// Between the end of an order and the next one, whatever the dates of the certificate are: a clock that is wrong, or an
/// authority that issues what has expired, must not make a stream of orders.
pub const ACME_ORDER_INTERVAL_MIN: Duration = Duration::from_mins(1);
/// The first wait after an attempt that did not reach the authority, doubled with each further one.
pub const ACME_UNREACHABLE_WAIT: Duration = Duration::from_secs(10);
/// The longest wait after an attempt that did not reach the authority: it counts no attempts, and may be back at any time.
pub const ACME_UNREACHABLE_WAIT_MAX: Duration = Duration::from_mins(10);
/// The first wait after an attempt that the authority refused, doubled with each further one: Let's Encrypt takes five failed
/// attempts an hour for a name, and this makes four.
pub const ACME_REFUSED_WAIT: Duration = Duration::from_mins(5);
/// The longest wait after an attempt that the authority refused.
pub const ACME_REFUSED_WAIT_MAX: Duration = Duration::from_hours(6);
/// The longest wait that an authority can ask for (`Retry-After`).
pub const ACME_RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// Connections to the answerer of HTTP-01 at a time, and how long each may last: an authority makes a handful.
pub const ACME_HTTP_CONNECTIONS_MAX: usize = 32;
/// See [`ACME_HTTP_CONNECTIONS_MAX`].
pub const ACME_HTTP_TIMEOUT: Duration = Duration::from_secs(10);

// ---- Tokens ----

/// How long a token may be used to connect. IVS: 60 minutes; below 2 minutes the SDK refreshes in a
/// tight loop.
pub const TOKEN_LIFE: Duration = Duration::from_hours(1);
/// Upper bound of `tokens.life_minutes`; a replaced sealing key is kept as long.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(24);
/// Upper bound of `sessionDurationInMinutes` (contract §2).
pub const SESSION_MINUTES_MAX: u32 = 180;
/// Default of `sessionDurationInMinutes`.
pub const SESSION_MINUTES_DEFAULT: u32 = 60;
/// Used tokens one shard remembers until they expire; 48 bytes each. 5 million is an hour of
/// 1,400 handshakes a second. At the bound new handshakes are refused with 429.
pub const USED_TOKENS_MAX: usize = 5_000_000;
/// One segment of the journal of used tokens, in bytes: 32,768 uses. Small enough that removing one
/// does not hold up its shard, and few enough at 1,400 uses a second for an hour: 160.
pub const JOURNAL_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Used tokens removed by one cleanup, one cleanup a second: 1.4 ms of the shard's time if it
/// remembers 2.5 million,
/// 1.9 ms if 5 million. Each removal misses every cache.
pub const TOKENS_FORGOTTEN_PER_LOOK_MAX: usize = 16_384;
/// One cleanup removes at most half of a segment's tokens, so removing one segment per cleanup
/// keeps up.
#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const _: () = assert!((TOKENS_FORGOTTEN_PER_LOOK_MAX as u64) * 32 < JOURNAL_SEGMENT_BYTES);
/// Sealing keys whose removed tokens are tracked separately. Beyond it the oldest key's latest
/// expiry applies to all.
pub const FORGOTTEN_KEYS_MAX: usize = 16;

// ---- Room log and delivery (design: the room log) ----

/// Largest server frame, in bytes: a message whose every character needs a six-byte escape. Content
/// 3,000, attributes of message and sender 6,144 each, `"":"",` of their members 3,100, the two ids
/// 768 each, names and header 300: 20,224.
pub const FRAME_BYTES_MAX: usize = 20 * 1024;
/// One segment of a busy room's log, in bytes. A send ends where a segment ends: smaller segments
/// would cut every second send of a crowded room in two.
pub const SEGMENT_BYTES: usize = 1024 * 1024;
/// A segment that fills sooner is followed by a larger one, so that a room's last segment takes no
/// more memory than some seconds of its messages, and lasts for many passes over its members.
pub const SEGMENT_LASTS_MIN: Duration = Duration::from_secs(4);
/// Largest run of a room log that one send carries, in bytes: three quarters of
/// [`SOCKET_SEND_BYTES`], because the kernel counts its own bookkeeping too.
pub const SEND_BYTES_MAX: usize = 384 * 1024;
/// The same over TLS, in bytes of plaintext, which is copied and sealed for each viewer.
pub const SEALED_SEND_BYTES_MAX: usize = 256 * 1024;
/// First segment of a quiet room's log, in bytes: most rooms never need more.
pub const SEGMENT_BYTES_MIN: usize = 4 * 1024;
/// Bytes a room log keeps for slow readers. A cursor that falls out of the window marks a slow
/// client.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Full segments a room keeps for reuse until it is idle: those the window pins, and as many again
/// that sends to slow clients may pin a little longer.
pub const SEGMENTS_SPARE: usize = 2 * (WINDOW_BYTES_MAX / SEGMENT_BYTES);
/// Age up to which a room log keeps messages for slow readers.
pub const WINDOW_AGE_MAX: Duration = Duration::from_secs(10);
/// Ceiling of the pace: the longest a busy room collects messages before one flush.
pub const PACE_CEILING: Duration = Duration::from_millis(50);
/// A send without progress for this long ends the connection.
pub const SEND_STALL_MAX: Duration = Duration::from_secs(20);
/// Frames that wait in one connection's private lane, in bytes. Beyond it the connection is closed.
pub const LANE_BYTES_MAX: usize = 64 * 1024;
/// Frames in a private lane, in bytes, beyond which only the newest ping is answered.
pub const PONGS_BYTES_MAX: usize = 4 * 1024;
/// Kernel send buffer requested for each connection, in bytes: without it 1,000 stalled readers pin
/// gigabytes of kernel memory (the kernel's own ceiling is about 4 MB each).
pub const SOCKET_SEND_BYTES: usize = 512 * 1024;
/// Window of compressed chat frames, as a power of two (RFC 7692 §7.1.2.1): 4 KiB holds all but the
/// largest frames whole. Offers of a smaller one are declined; Python's clients ask for 12.
pub const DEFLATE_WINDOW_BITS: u8 = 12;
/// Members on the home shard above which new members of a room are spread over all shards.
pub const STRIPE_MEMBERS_MIN: usize = 512;

// ---- Hand-over ----

/// Descriptors in one message between two processes, the kernel's `SCM_MAX_FD`.
pub const DESCRIPTORS_A_MESSAGE_MAX: usize = 253;
/// One message between two processes, in bytes: it fits the kernel's default send buffer (212,992)
/// with the kernel's own bookkeeping.
pub const PASSED_BYTES_MAX: usize = 128 * 1024;
/// Longest time in which a shard that freezes serves its members for the last time, so that most of
/// them have every message: the frozen shard carries what the others have not got.
pub const FREEZE_SERVE_MAX: Duration = Duration::from_millis(100);
/// Bytes of room logs that all shards hand over. Beyond it the oldest batches are left out, and
/// members that need them count as left behind by the window.
pub const ESTATE_LOGS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of unfinished sends that all shards hand over: 170 stalled clients with the longest ones.
/// Beyond it connections are not carried over, and are counted.
pub const ESTATE_RESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The record of one viewer without its unfinished send, in bytes: a full lane and the frame that
/// filled it, an incomplete message, the sender. A longer one is not carried over.
pub const ESTATE_RECORD_BYTES_MAX: usize = 128 * 1024;
const _: () = assert!(
    LANE_BYTES_MAX + 2 * FRAME_BYTES_MAX + MESSAGE_BYTES_MAX <= ESTATE_RECORD_BYTES_MAX,
    "whatever a connection may hold fits its record"
);
/// Batches of viewers that one shard has sent and the new process has not acknowledged: one under
/// way while one is installed. More would only keep more descriptors in messages, which the kernel
/// bounds for each user (`ETOOMANYREFS`).
pub const CARRY_WINDOW: u32 = 2;
/// How long a frozen shard sends its viewers; far more than a million take. Whoever asked gives up
/// first: then the connection ends, and with it the sending.
pub const CARRY_MAX: Duration = Duration::from_secs(20);
/// Records of one batch of viewers, in bytes; 253 of usual size take 60 KiB. A longer record is a
/// batch of its own.
pub const CARRIED_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The record of one carried viewer with its unfinished send, in bytes; the receiver refuses a
/// longer one.
pub const CARRIED_RECORD_BYTES_MAX: usize = 1024 * 1024;

// ---- Rings ----

/// Entries in one ring's table of fixed files; when all are taken the shard makes a further ring.
/// The limit on open files bounds it too. 8 bytes each, allocated with the ring.
pub const RING_CONNECTIONS_MAX: u32 = 65_536;
/// Rings of one shard: a million connections each even where the limit on open files is 1,024.
pub const RINGS_MAX: u16 = 1024;
/// Submission queue entries of a ring.
pub const RING_ENTRIES: u32 = 4096;
/// Completion queue entries: four sends' worth per submission slot; overflow is kept by the kernel.
pub const RING_COMPLETIONS: u32 = 4 * RING_ENTRIES;
/// Receive buffers a shard's first ring lends to the kernel; a power of two. When they run out,
/// receives are armed again.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Receive buffers of each further ring: its connections are mostly readers.
pub const RECEIVE_BUFFERS_FURTHER: u16 = 256;
/// One receive buffer, in bytes, parser padding included. A chat request is 200-700 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 4096;
/// Bytes after a message that the JSON parser may read (their content does not matter).
pub const PARSE_PADDING_BYTES: usize = 64;
/// Further `io_uring_enter` calls in one turn while connections wait until they are writable: one
/// for each twenty of them, as long as the kernel has deferred work. Each call runs 20 to 40 pieces
/// of it, and a receive queues behind all connections that became writable before it. Without
/// waiting connections there is none: later receives are then handled together.
pub const ENTERS_FURTHER_MAX: u32 = 64;
/// Where io_uring is forbidden: events that a shard takes from its epoll in one turn. The rest stays in the kernel, in
/// order, for the next turn. 12 bytes each.
pub const EPOLL_EVENTS: usize = 1024;
/// Sends submitted in one turn before receives and small rooms are served again: a millisecond of
/// the kernel's work. With 512 a small room beside a huge one waited 5 ms instead of 2, and
/// throughput did not rise.
pub const SENDS_PER_TURN_MAX: usize = 128;
/// Bytes sealed in one turn, or one send more: they stay in a core's second cache (1 MiB) until the kernel has copied them,
/// and the next turn seals in the same buffers. With 128 sends of 45 KiB copying cost three times as much.
pub const SEALED_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Further sends of one turn for continuations: the rest of a partial send, and what follows a
/// completed one. Sends that the walks do not use are available to them too.
pub const RESUMES_PER_TURN_MAX: usize = SENDS_PER_TURN_MAX / 2;

// ---- Mailboxes ----

/// Commands that wait between two threads, and as many requests. While it is full, requests are
/// refused (ERROR 429) and producers of commands wait, except for commands the current turn has
/// already started.
pub const MAILBOX_COMMANDS: usize = 8192;
/// Bytes a room holds back while a shard with members of it does not keep up; beyond it requests
/// are refused (ERROR 429). More than the window would reach no member.
pub const ROOM_UNFLUSHED_BYTES_MAX: usize = WINDOW_BYTES_MAX;

// ---- Liveness (contract §1.8) ----

/// Granularity of the connection timers; a deadline is met within two granules.
pub const CHECK_GRANULE: Duration = Duration::from_millis(250);
/// Interval of pings to a connection that sent nothing else; keeps NAT entries open.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Silence (no pong, no frame) after which a connection counts as dead: two missed pongs.
pub const IDLE_MAX: Duration = Duration::from_mins(1);
/// From our Close frame to the peer's answer; then the socket is closed anyway.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

// ---- Rates, profile `aws` (contract §1.11, §6) ----

/// Messaging requests of one connection, all actions, per second.
pub const CONNECTION_REQUESTS_PER_SECOND: u32 = 10;
/// `maximumMessageRatePerSecond` of a room: upper bound.
pub const ROOM_RATE_MAX: u32 = 100;
/// `maximumMessageRatePerSecond` of a room: default.
pub const ROOM_RATE_DEFAULT: u32 = 10;
/// `SEND_MESSAGE` of all rooms together, per second.
pub const ACCOUNT_SENDS_PER_SECOND: u32 = 1000;
/// `DELETE_MESSAGE` of all rooms together, WebSocket and HTTP, per second; the same bound applies
/// to `DISCONNECT_USER`.
pub const ACCOUNT_MODERATIONS_PER_SECOND: u32 = 100;
/// Concurrent connections, all rooms.
pub const CONNECTIONS_MAX_AWS: usize = 50_000;
/// Rooms of one account.
pub const ROOMS_MAX: usize = 50_000;
/// Logging configurations of one account.
pub const LOGGING_CONFIGURATIONS_MAX: usize = 10;

// ---- Process ----

/// Descriptors of one shard: two rings, their eventfds and pollers, listener and its duplicate,
/// journal. Thirteen are counted.
pub const DESCRIPTORS_PER_SHARD: u64 = 16;
/// Lowest limit on open files with which the server starts, without the descriptors of the shards:
/// 256 for listeners, database, API connections and handshakes, 256 for review handlers. Viewers
/// need none: they are fixed files of the rings. Descriptors beyond this go to handshakes and
/// further rings.
pub const DESCRIPTORS_MIN: u64 = 512;

/// Listening sockets that a start takes over: one for each of 1,024 shards, and the control listener.
/// `FileDescriptorStoreMax=` in the unit is the same.
pub const INHERITED_LISTENERS_MAX: usize = 1025;
/// How long a state is kept from the service manager while its socket is full. Ten messages fill
/// it, and a manager that starts a whole machine may not read for seconds.
pub const NOTIFY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long viewers that were cut are expected back. Their connects wait in the queue of a kept
/// listener for two minutes at most (`tcp_syn_retries`), and an application's own retries, or the
/// restart of a whole machine, take a few more. Credit for later ones would only weaken the rate.
pub const TOKEN_CREDIT_LIFE: Duration = Duration::from_mins(10);
/// Interval at which the number of connections is noted for the next start.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

// ---- Log lines ----

/// Interval of log lines of one kind that clients can cause, per thread. Suppressed lines are
/// counted.
pub const LOG_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that wait for the reader of standard error. A line is about 300 bytes, so it matches the
/// next bound.
pub const LOG_QUEUE_LINES_MAX: usize = 8192;
/// Bytes of those lines. A reader that pauses for a second while everything fails misses nothing.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One line, in bytes. The longest holds a backtrace, or several texts of [`LOG_TEXT_CHARS_MAX`].
pub const LOG_LINE_BYTES_MAX: usize = 32 * 1024;
/// Foreign text in one field of a line, in code points: twice the longest user id.
pub const LOG_TEXT_CHARS_MAX: usize = 256;
/// A panic's backtrace, in bytes; the innermost calls come first.
pub const LOG_BACKTRACE_BYTES_MAX: usize = 12 * 1024;
/// How long process exit waits until the queued lines are written.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

// ---- Control plane ----

/// Request body of the control listener, in bytes. The largest legal one has 50 full tags with
/// 19,200 characters, each written as two `\u` escapes of six bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// From the first byte of a request to the end of its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest declared body of a request refused before its body was read, in bytes, that is drained
/// to keep the connection; calls are mostly smaller. A larger one ends the connection.
pub const UNREAD_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that are read and dropped from a client that still sends on an ended connection, so that
/// no reset overtakes the answer. Sixteen times the largest legal body.
pub const LINGER_BYTES_MAX: usize = 16 * BODY_BYTES_MAX;
/// How long that may take on the control listener; on the messaging listener it is part of the
/// handshake.
pub const LINGER_MAX: Duration = Duration::from_secs(10);
/// One line of a database backup, in bytes: a record with 50 full tags has about 80 KB.
pub const BACKUP_LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Access keys in the data directory; about 300 bytes each.
pub const ACCESS_KEYS_MAX: usize = 10_000;
/// Interval at which the access keys are checked for changes: a revoked key remains valid for as
/// long. A check costs one system call; an unknown key causes a check at once.
pub const ACCESS_KEYS_CHECK: Duration = Duration::from_millis(100);
/// Logging configurations one room may name.
pub const ROOM_LOGGING_MAX: usize = 3;
/// Tags of one resource.
pub const TAGS_MAX: usize = 50;
/// Resources on one page of a listing; also the default.
pub const PAGE_ITEMS_MAX: u32 = 50;
/// Writes that share one commit and its sync.
pub const COMMIT_WRITES_MAX: usize = 256;
/// Requests of the control thread that wait for the cluster thread: all calls that may be open, and the ticks.
pub const BUCKET_REQUESTS_MAX: usize = CALLS_OPEN_MAX + 64;
/// Changes of a cluster's registry that were received and not applied, and as many that were applied and are not
/// on disk; beyond it the watch waits.
pub const BUCKET_CHANGES_MAX: usize = 1024;
/// Changes of one key that the bucket of a cluster's registry keeps. Not one alone: a node that looks what came before
/// its own write must not miss a mark because a later change, which it has not seen yet, has replaced it.
pub const BUCKET_HISTORY: i64 = 8;
/// From a request to the bucket of a cluster's registry to its answer; an answer takes 2 ms. After it the request is
/// sent again: below half of [`REGISTRY_ANSWER_MAX`], so that a call has two attempts.
pub const BUCKET_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Pause before a request to the bucket is sent again: an election of the brokers takes seconds.
pub const BUCKET_RETRY: Duration = Duration::from_millis(100);
/// Silence of the watch behind an acknowledged change after which it is begun anew: its broker may have died.
pub const BUCKET_SILENT_MAX: Duration = Duration::from_secs(1);
/// From a call in a cluster to its answer. After it the caller is told 500: the outcome is not known.
pub const REGISTRY_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Bytes of a file with the secret of an access key. Somebody who names another file by mistake is told so.
pub const ACCESS_SECRET_FILE_BYTES_MAX: u64 = 4096;
/// Bytes of a cluster's secret, the key of AES-256-GCM.
pub const CLUSTER_SECRET_BYTES: usize = 32;
/// Connections of the control listener; fewer if the limit on open files does not allow as many.
/// Beyond it a new connection replaces the oldest one without a call in progress.
pub const CONTROL_CONNECTIONS_MAX: usize = 4096;
/// Share of those connections one address may hold while all are taken, in percent: an address
/// above it loses its oldest ones first. Application servers are few; four of them may hold all.
pub const CONTROL_ADDRESS_PERCENT: u32 = 25;
/// Further connections, for health and metrics alone, while all others have a call in progress.
pub const CONTROL_HEALTH_CONNECTIONS_MAX: usize = 64;
/// Request head of the control listener, in bytes. UntagResource names up to 50 keys in its URI, 58
/// KB in Chinese; the HTTP library takes at most 64 KiB for a URI.
pub const CONTROL_HEAD_BYTES_MAX: usize = 72 * 1024;
/// Silence between two requests of one connection of the control listener; the first request has
/// [`HANDSHAKE_TIMEOUT`]. SDKs keep connections for later; a longer silence wastes descriptors.
pub const CONTROL_IDLE_MAX: Duration = Duration::from_mins(1);
/// From an authenticated call to its answer, which waits for the disk or a shard. After it the
/// caller is told that the outcome is unknown; the call continues.
pub const CALL_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Calls that wait for the disk or a shard, including calls whose callers were told that the
/// outcome is unknown.
pub const CALLS_OPEN_MAX: usize = 4096;
/// Messages of one SendMessages, and deletions of one DeleteMessages: a second's worth of a room at its
/// limit, and what fits a body.
pub const SAID_PER_CALL_MAX: usize = 100;
/// How long a node of a cluster waits for the other nodes' counts of an event to one user. They have
/// sent it, or not, whatever is counted.
pub const USER_EVENT_COUNT_MAX: Duration = Duration::from_secs(1);
/// From a request of the control thread to the shard's answer; a busy shard's turn takes
/// milliseconds.
pub const SHARD_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a ring's entries may fail one after another for want of memory; then its shard ends,
/// and the process. Longer than a shortage that passes, shorter than viewers wait.
pub const RING_REFUSED_MAX: Duration = Duration::from_secs(10);
/// From a health check until every thread has taken a turn. A turn takes milliseconds, a commit to
/// a slow disk a second.
pub const LIVENESS_MAX: Duration = Duration::from_secs(5);
/// From the stop command to the end of a thread. Longer than the archive waits for its disk.
pub const THREAD_STOP_MAX: Duration = Duration::from_secs(10);
/// From the panic of a supervised task to its restart.
pub const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// How long the server waits for calls in progress when it stops or pauses its API.
pub const CONTROL_DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long a viewer whose turn in a drain has come may take to receive what was said; then it is cut
/// all the same. Viewers on poor lines are a round trip or two behind.
pub const CUT_WAIT_MAX: Duration = Duration::from_secs(1);
/// From our FIN in a drain to the viewer's: requests that it had sent by then are taken. Several round
/// trips around the world.
pub const CUT_LINGER: Duration = Duration::from_secs(2);
/// The same when the server stops at once: then nobody is there who would hear of a request, and a
/// restart waits for its end.
pub const STOP_LINGER: Duration = Duration::from_millis(100);
/// How long a server that stops at once waits for viewers of whom none gets on: they do not read.
pub const STOP_STALL_MAX: Duration = Duration::from_millis(250);
/// Least time between two cuts of a shard that drains: a faster pace cuts several in a row.
pub const DRAIN_TICK: Duration = Duration::from_millis(10);
/// Positions of the table of connections that a drain looks at in one turn; a look takes some 20 ns.
pub const DRAIN_LOOKS_PER_TURN_MAX: usize = 4096;
/// Part of `CreateChatToken`'s rate that a drain may use up, in percent: the rest is for viewers who
/// come of themselves.
pub const DRAIN_TOKENS_PERCENT: u64 = 80;
/// Longest `drain.over_s` and `drain.notice_s`.
pub const DRAIN_MAX: Duration = Duration::from_hours(24);
/// One message on the admin socket, in bytes: an order, or an answer with a refusal that names every
/// faulty key of a configuration.
pub const ADMIN_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Open connections of the admin socket: a command each, and one is enough for most days. Further
/// ones are refused, so that commands which wait for a drain keep no descriptors from viewers.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// From a connection to the admin socket until its order has arrived: the command sends it at once.
pub const ADMIN_ORDER_MAX: Duration = Duration::from_secs(5);
/// How long an answer waits for a command that does not read; progress does not wait at all.
pub const ADMIN_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a command waits for the server's next word before it gives up: longer than any phase of
/// an order takes, since the server tells of progress at least as often.
pub const ADMIN_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Rooms of one answer on the admin socket: some screens full, and 20 KB.
pub const ADMIN_ROOMS_MAX: usize = 100;
/// Viewers of a room that one answer on the admin socket names: `Sender` has at most 1.3 KB.
pub const ADMIN_VIEWERS_MAX: usize = 20;
/// Their bytes; what does not fit is left out, so that an answer keeps within `ADMIN_MESSAGE_BYTES_MAX`.
pub const ADMIN_VIEWERS_BYTES_MAX: usize = 24 * 1024;
/// Rooms that `/metrics` names by each of two figures. Whoever stores the figures pays for each room that was ever named.
pub const METRICS_ROOMS_MAX: usize = 100;
/// Samples of a server's recent history: 15 minutes, 20 KB in memory; an answer keeps within
/// `ADMIN_MESSAGE_BYTES_MAX` even with the greatest numbers.
pub const HISTORY_SAMPLES_MAX: usize = 180;
/// Time between two of them: a chart of a screen's width has no room for more.
pub const HISTORY_INTERVAL: Duration = Duration::from_secs(5);
/// Rooms whose live messages are listened to over the API at a time: a member each, and a few operators with some
/// pages each are many.
pub const TAILS_MAX: usize = 32;
/// Between two empty lines of such a listening, so that both ends notice when the other one has gone.
pub const TAIL_QUIET_MAX: Duration = Duration::from_secs(15);
/// How long an upgrade that was asked for over the API may say at once that it cannot begin; then it has begun, and
/// the answer must be out before the listener pauses.
pub const UPGRADE_REFUSAL_MAX: Duration = Duration::from_millis(100);
/// Rooms that a shard looks at in one turn for somebody who asks for the largest ones: some 50 us.
pub const SURVEY_ROOMS_PER_TURN: usize = 1024;
/// Members among whom a shard looks for a user in one turn, the last room's aside: some 50 us.
pub const SURVEY_MEMBERS_PER_TURN: usize = 65_536;
/// How long a member that came by the admin socket stays at most: longer than any show, and a forgotten `uproar tap`
/// ends some day.
pub const ADMIN_MEMBER_STAY_MAX: Duration = Duration::from_hours(24);
/// One frame that such a member hears, in bytes: an answer of ours has 16 KiB at most.
pub const ADMIN_MEMBER_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Frames that `uproar tap` has heard and not printed. Further ones are left out, and it says how many.
pub const TAP_QUEUE_MAX: usize = 1024;
/// How long a handshake of such a member may take, so long is its token remembered as used.
pub const ADMIN_MEMBER_TOKEN_LIFE: Duration = Duration::from_mins(1);
/// Records of one page that `uproar import` asks for; the API's own maximum.
pub const IMPORT_PAGE: u32 = 50;
/// Bytes of an answer that it reads: 50 rooms with 50 of the longest tags each are 1.2 MB.
pub const IMPORT_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for one call of it.
pub const IMPORT_ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often it makes a call that is throttled or fails; with pauses that double, about two minutes.
pub const IMPORT_TRIES_MAX: u32 = 12;
/// The longest of these pauses.
pub const IMPORT_PAUSE_MAX: Duration = Duration::from_secs(20);
/// How far an emulator's clocks may be ahead of the machine's, all advances together. Ticks of ten years fit every table of
/// timers; the longest span that a test has a reason for is the life of a certificate.
pub const EMULATOR_ADVANCE_MAX: Duration = Duration::from_hours(24 * 3650);
/// Rooms and logging configurations that a reset changes at once: they share a commit.
pub const EMULATOR_RESET_CALLS: usize = 256;
/// Frames that `uproar dev --frames` keeps at most: many times what a test looks at.
pub const EMULATOR_FRAMES_MAX: u32 = 100_000;
/// Bytes of their texts; 100,000 short messages with their JSON.
pub const EMULATOR_FRAMES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Frames of one answer.
pub const EMULATOR_FRAMES_ANSWER_MAX: usize = 1_000;
/// Pause between two looks of `uproar wait`: a start takes about this long.
pub const WAIT_LOOK: Duration = Duration::from_millis(10);
/// Time that it gives a server to connect, and to go on with its answer.
pub const WAIT_PROBE_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer that it reads; `/readyz` has some hundred.
pub const WAIT_ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// How long a draining node waits at its end for the others to take its slots: two appends each, 16 slots at a time. What is left
/// is taken over as from a dead node, a second later.
pub const SLOTS_LEAVE_MAX: Duration = Duration::from_secs(5);
/// How long a command waits for a node's word on its cluster: the node has it at hand, so silence means that it stands still,
/// and the next node is asked.
pub const CLUSTER_STATUS_MAX: Duration = Duration::from_secs(3);
/// How long a connection of the control listener may still send its first request when the listener
/// is not served any more: a client sends it right after its connect or its TLS handshake.
pub const CONTROL_FIRST_CALL_MAX: Duration = Duration::from_millis(50);
/// Difference between `X-Amz-Date` (or a signed `Date`) and our clock that is still accepted.
pub const SIGNATURE_SKEW_MAX: Duration = Duration::from_mins(5);

// ---- Message review (contract §4) ----

/// From a message's arrival to its verdict, including the wait for a free request; after it the
/// room's `fallbackResult` decides. As the managed service.
pub const REVIEW_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest time-out that may be configured: the sender waits this long for the answer.
pub const REVIEW_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Messages one room holds until they are decided: five seconds at the highest room rate. At the
/// bound new ones are refused with ERROR 429.
pub const REVIEW_HELD_PER_ROOM_MAX: usize = 512;
/// Messages all rooms of one shard hold, 16 MB of typical ones: 32 rooms at their bound. At the
/// bound new ones are refused with ERROR 429.
pub const REVIEW_HELD_MAX: usize = 16_384;
/// Requests in flight to one handler: 6,400 messages a second at 10 ms each.
pub const REVIEW_IN_FLIGHT_PER_HANDLER_MAX: usize = 64;
/// Requests in flight to all handlers, a connection each: four handlers that hang.
pub const REVIEW_IN_FLIGHT_MAX: usize = 256;
/// Reviews of one handler that wait for a free request. Beyond it the room's `fallbackResult`
/// decides at once.
pub const REVIEW_WAITING_PER_HANDLER_MAX: usize = 1024;
/// Reviews of all handlers that wait or are in flight. Beyond it the room's `fallbackResult`
/// decides at once.
pub const REVIEW_OPEN_MAX: usize = 8192;
/// Handlers whose state is kept while they are idle; beyond it the idle ones are forgotten.
pub const REVIEW_HANDLERS_MAX: usize = 1024;
/// Answer of a handler, in bytes. A legal one is below 20 KB, escapes included; the rest is space
/// for unknown members.
pub const REVIEW_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// `Reason` of a denial, in code points; a longer one is cut.
pub const REVIEW_REASON_CHARS_MAX: usize = 256;
/// How long an idle connection to a handler is kept.
pub const REVIEW_IDLE_MAX: Duration = Duration::from_secs(30);

// ---- Chat logs (contract §5) ----

/// Frames one shard has sent to the archive without an acknowledgement, in bytes. At the bound
/// frames are delivered but not logged, and counted.
pub const LOG_HANDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest time a logged room's frames wait for the spool before they are delivered anyway: a
/// stalled disk must not stall the chat.
pub const LOG_HOLD_MAX: Duration = Duration::from_millis(250);
/// How long a hand-over waits for deliveries of chat logs to finish what they have begun; and the same again for
/// a file that is being written. Requests without an answer are then broken off and repeated.
pub const LOG_PAUSE_MAX: Duration = Duration::from_secs(1);
/// One spool entry, in bytes: the largest frame in its envelope. A longer one on disk is corrupt.
pub const LOG_ENTRY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// One file of a spool, in bytes: a full spool drops one file at a time.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Records one configuration's spool keeps while its destination does not accept records, in bytes.
/// Beyond it the oldest segment is dropped and its undelivered records counted.
pub const LOG_SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long undelivered records are kept; CloudWatch Logs accepts none older than 14 days.
pub const LOG_AGE_MAX: Duration = Duration::from_hours(72);
/// Records read from a spool as one batch, in bytes: the memory of one delivery, and the largest
/// object before compression.
pub const LOG_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time covered by one object of a room; as the managed service, "5 minutes on average".
pub const LOG_OBJECT_WINDOW: Duration = Duration::from_mins(5);
/// How long records for CloudWatch Logs and Firehose are collected; the managed service takes 10 s.
pub const LOG_STREAM_LINGER: Duration = Duration::from_secs(5);
/// Arrival times that one spool keeps, 16 bytes each: one a minute for almost three days, then one
/// in two minutes, and so on. They give the age of the oldest undelivered record.
pub const LOG_AGES_MAX: usize = 4096;
/// How often spools are synced to disk: a power failure loses at most this much. SIGKILL loses
/// nothing.
pub const LOG_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a failed delivery; doubles up to [`LOG_RETRY_MAX`].
pub const LOG_RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause after a failed delivery.
pub const LOG_RETRY_MAX: Duration = Duration::from_secs(30);
/// Halvings of a refused request without a pause, until the destination accepts something: enough
/// to find one record among [`PUT_LOG_EVENTS_MAX`].
pub const LOG_HALVINGS_MAX: u32 = 16;
/// Records dropped one by one because their destination refuses them, until it accepts one again:
/// beyond it the destination itself is suspected, and nothing is dropped.
pub const LOG_DROPS_MAX: u32 = 16;
/// Refusals after which a record is dropped although the destination accepts nothing else, if it is
/// named as the cause or other records wait for it: about eight minutes of pauses.
pub const LOG_REFUSALS_MAX: u32 = 20;
/// Time limit of one request to a destination, connecting included.
pub const LOG_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a destination's answer is read, in bytes.
pub const LOG_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Events of one `PutLogEvents` (CloudWatch Logs).
pub const PUT_LOG_EVENTS_MAX: usize = 10_000;
/// Messages of one `PutLogEvents`, in bytes, including [`PUT_LOG_EVENT_OVERHEAD_BYTES`] for each.
pub const PUT_LOG_EVENTS_BYTES_MAX: usize = 1_048_576;
/// Bytes that CloudWatch Logs adds to each event's length.
pub const PUT_LOG_EVENT_OVERHEAD_BYTES: usize = 26;
/// Time between the oldest and the newest event of one `PutLogEvents`.
pub const PUT_LOG_EVENTS_SPAN_MAX: Duration = Duration::from_hours(24);
/// Records of one `PutRecordBatch` (Firehose).
pub const PUT_RECORDS_MAX: usize = 500;
/// Records of one `PutRecordBatch`, in bytes: 4 MiB less space for their encoding.
pub const PUT_RECORDS_BYTES_MAX: usize = 3 * 1024 * 1024;

const _: () = assert!(
    FRAME_BYTES_MAX <= SEGMENT_BYTES,
    "one frame fits one segment"
);
const _: () = assert!(
    SEGMENT_BYTES <= WINDOW_BYTES_MAX,
    "the window holds a segment"
);
const _: () = assert!(
    FRAME_BYTES_MAX <= SEALED_SEND_BYTES_MAX
        && SEALED_SEND_BYTES_MAX <= SEND_BYTES_MAX
        && SEND_BYTES_MAX <= SOCKET_SEND_BYTES,
    "one frame fits one send, and one send the kernel's buffer"
);
const _: () = assert!(
    ESTATE_RECORD_BYTES_MAX + SEND_BYTES_MAX <= CARRIED_RECORD_BYTES_MAX,
    "a record with its unfinished send is carried"
);
const _: () = assert!(
    FRAME_BYTES_MAX <= LANE_BYTES_MAX,
    "one frame fits an empty lane"
);
const _: () = assert!(
    PROXY_HEADER_BYTES_MAX <= HANDSHAKE_READ_BYTES && ADDRESS_HANDSHAKES_PERCENT <= 100,
    "a proxy's header fits the first read"
);
const _: () = assert!(
    RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS_FURTHER.is_power_of_two(),
    "the kernel requires it of a buffer ring"
);
const _: () = assert!(
    RING_CONNECTIONS_MAX <= 1 << 16,
    "the index of a fixed file has 16 bits"
);
const _: () = assert!(
    REVIEW_IN_FLIGHT_PER_HANDLER_MAX < REVIEW_IN_FLIGHT_MAX
        && REVIEW_WAITING_PER_HANDLER_MAX < REVIEW_OPEN_MAX
        && REVIEW_HELD_PER_ROOM_MAX < REVIEW_HELD_MAX,
    "one handler, or one room, leaves space for others"
);
const _: () = assert!(
    LOG_BACKTRACE_BYTES_MAX * 2 < LOG_LINE_BYTES_MAX && LOG_LINE_BYTES_MAX <= LOG_QUEUE_BYTES_MAX,
    "a backtrace with its escapes fits a line, and a line the queue"
);
const _: () = assert!(PARSE_PADDING_BYTES < RECEIVE_BUFFER_BYTES);
const _: () = assert!(PARSE_PADDING_BYTES >= simd_json::INPUT_PADDING);
const _: () = assert!(
    LOG_ENTRY_BYTES_MAX <= LOG_BATCH_BYTES_MAX && LOG_ENTRY_BYTES_MAX <= PUT_LOG_EVENTS_BYTES_MAX,
    "any record fits a delivery"
);
const _: () = assert!(
    SEGMENT_BYTES <= LOG_HANDED_BYTES_MAX,
    "a segment fits the bound on unacknowledged frames"
);
const _: () = assert!(
    2 * LOG_SEGMENT_BYTES <= LOG_SPOOL_BYTES_MAX,
    "a spool has a segment to write and one to drop"
);

// ---- A node's shards in a cluster ----

/// Requests of one shard that the cluster has not answered: of members and of the API. More are refused (ERROR 429).
/// At 2,000 a second a failover of 15 s leaves 30,000 of them.
pub const CLUSTER_REQUESTS_MAX: usize = 65_536;
/// Connections of one shard that wait until the cluster knows their token's use; fewer under a small limit on open
/// files, since each holds a descriptor. Others are refused (429). Five seconds of 13,000 joins a second.
pub const JOINS_PARKED_MAX: usize = 65_536;
/// From a token's use to the cluster's word on it; without one the connection is refused (503) and its client comes
/// again.
pub const JOIN_PARKED_MAX: Duration = Duration::from_secs(5);
/// Bytes of frames from the cluster's log that a shard appends in one turn, and a record more: what the window of a room
/// holds. More wait in the mailbox.
pub const ADOPTED_BYTES_PER_TURN: usize = WINDOW_BYTES_MAX;
/// Requests for rooms that this node, their home, does not know yet: another node made them a moment ago.
pub const UNKNOWN_ROOM_REQUESTS_MAX: usize = 1024;
/// How long such a request waits before it is refused (404), and a connection to such a room for the word that this node
/// knows all rooms (then 503). A watch of the registry is begun anew within a second if its broker dies.
pub const UNKNOWN_ROOM_WAIT: Duration = Duration::from_secs(2);
/// Between two barriers of a node for connections to rooms that it does not know: whoever has tokens of rooms that are gone
/// makes 50 writes a second, however many there are.
pub const UNKNOWN_ROOM_SEARCH: Duration = Duration::from_millis(20);

// ---- Take-over: a new process in the place of the one that serves ----

/// Longest message between the two, in bytes. Names of 250 listeners are 4 KiB; rooms and viewers travel apart.
pub const TAKE_OVER_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// From the start of the new process to its hello, in which it reads configuration and certificates. A program that is
/// no server is killed then.
pub const TAKE_OVER_START_MAX: Duration = Duration::from_secs(20);
/// From the hello to the loaded store, in which the API waits: 2.4 s for 50,000 rooms, and calls in progress have 6 s.
pub const TAKE_OVER_LOAD_MAX: Duration = Duration::from_secs(25);
/// Handshakes in progress have this long when the doors close, then they are cut; their SDKs try again.
pub const TAKE_OVER_HANDSHAKES_MAX: Duration = Duration::from_millis(250);
/// From closed doors to the new process's acknowledgement, in which viewers wait: half of what a viewer's stalled send
/// may take. Then everything is taken back.
pub const TAKE_OVER_PAUSE_MAX: Duration = Duration::from_secs(10);
/// The new process exits when the old one has said nothing for this long: longer than each of the old one's own
/// limits but `TAKE_OVER_LOAD_MAX`, which the new one spends at work.
pub const TAKE_OVER_SILENCE_MAX: Duration = Duration::from_secs(15);
/// The old process exits this long after the acknowledgement, the new one kills it then.
pub const TAKE_OVER_SERVING_MAX: Duration = Duration::from_secs(2);
/// How long `uproar upgrade` waits for the end of a process that has handed over, which is killed before that.
pub const TAKE_OVER_END_MAX: Duration = Duration::from_secs(5);
/// Largest state of all rooms that is carried over, in bytes: log bytes that members have not got yet, twice, for they may
/// be held plain and compressed, and 1 KiB for each of 250,000 rooms.
pub const TAKE_OVER_ROOMS_BYTES_MAX: u64 = 768 * 1024 * 1024;
/// Last lines of a new process that did not greet, which the operator is told.
pub const TAKE_OVER_LINES_MAX: usize = 10;
const _: () = assert!(TAKE_OVER_SERVING_MAX.as_secs() < TAKE_OVER_END_MAX.as_secs());
const _: () = assert!(TAKE_OVER_PAUSE_MAX.as_secs() < TAKE_OVER_SILENCE_MAX.as_secs());
const _: () = assert!(TAKE_OVER_LOAD_MAX.as_secs() < ADMIN_SILENCE_MAX.as_secs());

// ---- Cluster: many nodes as one server ----

/// Hash slots: parts of all rooms, each with a log and a home. A power of two far above the number of nodes, so that
/// loads are even, and a byte.
pub const HASH_SLOTS: usize = 256;
/// Bytes of entries and of requests in one record or message. Brokers take 1 MiB (`max_payload`), and the
/// largest frame is below 64 KiB.
pub const CLUSTER_BATCH_BYTES_MAX: usize = 512 * 1024;
/// Bytes of requests that a node keeps until their outcome is known: ten seconds without a home, the longest
/// election of brokers, at 3,000 requests of 500 bytes a second.
pub const CLUSTER_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A request whose outcome is not known after this is given up: above the longest election of brokers, 9 s.
pub const CLUSTER_KEPT_MAX: Duration = Duration::from_secs(15);
/// Requests are sent again after this without a sign of their home: 100 times a round trip.
pub const CLUSTER_RESEND: Duration = Duration::from_millis(500);
/// Bytes of entries that a node, as home, holds for the log. Beyond, it takes no requests, and their origins
/// send them again: each origin keeps `CLUSTER_KEPT_BYTES_MAX`, and there are many.
pub const CLUSTER_AUTHORED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Refusals that a home keeps for each origin and hash slot, to repeat them, until the origin has them.
pub const CLUSTER_REFUSALS_MAX: usize = 1024;
/// Bytes of records of one hash slot that a node holds while those before them are read from the log.
pub const CLUSTER_HELD_BYTES_MAX: usize = 1024 * 1024;
/// Messages to a home for an epoch that it is about to read, each hash slot.
pub const CLUSTER_EARLY_MESSAGES_MAX: usize = 64;
/// A use of a token that brokers refuse although they have none is tried again after this, then after twice as long each time, up
/// to `CLUSTER_RETRY`: another use of it is in progress, for an append's time.
pub const CLUSTER_TOKEN_RETRY_MIN: Duration = Duration::from_millis(10);
/// A node that draws from the account's budgets waits this long for them: many round trips. Then it grants its part of the
/// rates on its own, and asks again as often.
pub const CLUSTER_DRAW_MAX: Duration = Duration::from_millis(100);
/// Requests and calls of one node that wait for the answer to a draw: ten times a rate of 100,000 a second, for a round trip
/// of a millisecond and more.
pub const CLUSTER_DRAW_WAITING_MAX: usize = 16_384;
/// From the beginning of an append that its log has taken, the home of hash slot 0 grants the account's rates for this long:
/// no longer than `CLUSTER_GRACE`, after which somebody else may.
pub const CLUSTER_BANK_LEASE: Duration = Duration::from_millis(500);
const _: () = assert!(CLUSTER_BANK_LEASE.as_millis() <= CLUSTER_GRACE.as_millis());
/// Draws that wait for it, one a node: more nodes than a cluster has.
pub const CLUSTER_BANK_DRAWS_MAX: usize = 1024;
/// How often a node tells all others that it lives.
pub const CLUSTER_HERE: Duration = Duration::from_millis(500);
/// A node that is silent for this long has lost its hash slots: six signs of life.
pub const CLUSTER_SILENT: Duration = Duration::from_secs(3);
/// From the suspicion that a node is dead to the first take-over: one sign of life, which would refute it.
pub const CLUSTER_GRACE: Duration = Duration::from_millis(500);
/// How much later than the one before it each further node takes over: the condition decides between two, but one
/// is cheaper.
pub const CLUSTER_RANK: Duration = Duration::from_secs(1);
/// A node gets hash slots of healthy homes once it has been ready for this long: a node that restarts in a circle
/// moves none.
pub const CLUSTER_READY_MIN: Duration = Duration::from_secs(5);
/// Hash slots that one node hands over at once: their rooms pause for two appends.
pub const CLUSTER_MOVES_MAX: usize = 16;
/// A home shows that nothing follows its last record after this: a reader that lost the last record learns of it.
pub const CLUSTER_PULSE_SOON: Duration = Duration::from_secs(1);
/// A home appends at least this often, so that the last record never ages out: a quarter of `CLUSTER_LOG_AGE`.
pub const CLUSTER_PULSE: Duration = Duration::from_secs(15);
/// A node that got nothing from a log for this long reads its end: longer than its home is silent, and well below
/// `CLUSTER_LOG_AGE`, so that a record whose every copy was lost is still there.
pub const CLUSTER_QUIET: Duration = Duration::from_secs(20);
/// How long records stay in a log: four times the longest outage that a node catches up with by itself.
pub const CLUSTER_LOG_AGE: Duration = Duration::from_mins(1);
/// An append or a read without a verdict is tried again after this.
pub const CLUSTER_RETRY: Duration = Duration::from_millis(250);
/// How often a node sends a probe through the home and the log of one hash slot, each in turn.
pub const CLUSTER_PROBE: Duration = Duration::from_secs(1);
/// A log is taken to have gone back when reads say so for this long: longer than a deposed leader of brokers answers.
pub const CLUSTER_WENT_BACK: Duration = Duration::from_secs(12);
/// A node that was not heard for this long is forgotten.
pub const CLUSTER_FORGET: Duration = Duration::from_mins(1);

// ---- Cluster: the brokers ----

/// A broker that says nothing for this long has failed, and the node connects to another one: three pings. Half of
/// `CLUSTER_SILENT`, so that a node whose broker stands still is heard again before others take it for dead.
pub const CLUSTER_BROKER_SILENT: Duration = Duration::from_millis(1_500);
/// A connection to a broker, TLS included, is made in this time, or another broker is tried.
pub const CLUSTER_CONNECT_MAX: Duration = Duration::from_secs(2);
/// Before each attempt to connect a node waits for a random part of this: all nodes lose a broker at once.
pub const CLUSTER_RECONNECT_JITTER: Duration = Duration::from_millis(200);
/// Messages of one subscription that wait for the cluster's thread, which takes them all in each turn: half a second of
/// the most that a cluster carries (34,000 records a second).
pub const CLUSTER_SUBSCRIPTION_MAX: usize = 16 * 1024;
/// Messages that wait to be written to one connection: an append of each hash slot, and the token uses in flight, twice.
pub const CLUSTER_COMMANDS_MAX: usize = 8 * 1024;
/// A call to the brokers that waits for the streams' leader is given up after this.
pub const CLUSTER_CALL_MAX: Duration = Duration::from_secs(5);
/// A process that takes over from a node waits this long for brokers, and again for the registry; then the old process
/// serves on. Both within `TAKE_OVER_LOAD_MAX`.
pub const CLUSTER_STANDBY_MAX: Duration = Duration::from_secs(8);
/// A node that is about to hand over waits this long for other nodes to take its slots; the new process takes over the rest.
pub const SLOTS_RELEASE_MAX: Duration = Duration::from_secs(3);
const _: () = assert!(CLUSTER_STANDBY_MAX.as_secs() * 2 + 2 < TAKE_OVER_LOAD_MAX.as_secs());
const _: () = assert!(SLOTS_RELEASE_MAX.as_secs() * 2 < TAKE_OVER_PAUSE_MAX.as_secs());
/// `uproar cluster init` waits this long for brokers that do not see each other yet: an election takes up to 9 s.
pub const CLUSTER_PEERS_MAX: Duration = Duration::from_secs(15);
/// Bytes of one stream of logs; a cluster has eight. 50 s of 100,000 messages a second; the oldest go first.
pub const CLUSTER_LOG_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Bytes of the stream of token uses: 57 million of 150, which is what one leader was measured to take, 14,400 a second, for the 65
/// minutes that they are kept. What comes then is refused, for a use that is forgotten would let its token open another connection.
pub const CLUSTER_TOKEN_BYTES_MAX: i64 = 8 * 1024 * 1024 * 1024;
/// An append or a read that is not answered after this is asked again: many times what a quorum under load takes, and
/// short beside an election, whose end it would prolong.
pub const CLUSTER_ANSWER_MAX: Duration = Duration::from_secs(1);
/// Records of one answer to a read of a log. With their bytes they bound what a node holds while it catches up.
pub const CLUSTER_FETCH_RECORDS_MAX: usize = 512;
/// Bytes of them, beyond which the answer ends.
pub const CLUSTER_FETCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Token uses of one node that wait for the brokers; further ones wait in the node. At 3 ms each, 600,000 a second.
pub const CLUSTER_TOKEN_USES_MAX: usize = 2048;
/// Token uses of one append. Brokers take up to 1,000 messages in a batch, and no second one by this node while it is in progress.
pub const CLUSTER_TOKEN_BATCH_MAX: usize = 256;
/// Items of one source that the cluster's thread takes in a turn, so that none waits for another's flood.
pub const CLUSTER_TURN_MESSAGES_MAX: usize = 1024;
/// How often a node looks at itself: `/readyz` and `/metrics` show that view.
pub const CLUSTER_STATE_INTERVAL: Duration = Duration::from_millis(250);
/// A node goes to other brokers when no probe has come back through those that it has for this long: they may be without
/// a majority that the others have. An election delays some slots' probes and not those of all.
pub const CLUSTER_MUTE_MAX: Duration = Duration::from_secs(4);
/// A node whose two connections are to different brokers for this long brings them together: what a connection needs that
/// follows the other one, `CLUSTER_CONNECT_MAX` at most.
pub const CLUSTER_APART_MAX: Duration = Duration::from_secs(2);
/// A node is not ready when no probe has come back through the home and the log for this long: five probes.
pub const CLUSTER_PROBE_MAX: Duration = Duration::from_secs(5);
/// The least time that `cluster.isolated_cut_seconds` takes: an election of brokers, after which nobody has to be cut,
/// takes up to 12 s.
pub const CLUSTER_ISOLATED_MIN: Duration = Duration::from_secs(15);
/// A node is not ready, and no home, while its clock is further than this from the brokers'.
pub const CLUSTER_SKEW_MAX: Duration = Duration::from_secs(2);
/// Time whose records tell how far the clocks are apart. A silent log has a record each `CLUSTER_PULSE`.
pub const CLUSTER_SKEW_WINDOW: Duration = Duration::from_secs(15);
/// How much longer than any token lives its use is remembered: clocks may differ, and brokers look once in a while.
pub const CLUSTER_TOKEN_AGE_SPARE: Duration = Duration::from_mins(5);
const _: () = assert!(CLUSTER_BROKER_SILENT.as_millis() * 2 <= CLUSTER_SILENT.as_millis());
const _: () = assert!(CLUSTER_BATCH_BYTES_MAX * 3 / 2 <= CLUSTER_HELD_BYTES_MAX);
const _: () = assert!(
    CLUSTER_PULSE.as_secs() < CLUSTER_QUIET.as_secs()
        && CLUSTER_QUIET.as_secs() * 2 < CLUSTER_LOG_AGE.as_secs()
);
const _: () = assert!(CLUSTER_PULSE.as_secs() * 4 <= CLUSTER_LOG_AGE.as_secs());
const _: () = assert!(CLUSTER_KEPT_MAX.as_secs() < CLUSTER_LOG_AGE.as_secs());
const _: () = assert!(CLUSTER_SKEW_WINDOW.as_secs() >= CLUSTER_PULSE.as_secs());
