//! Every bound of the server in one place: name, unit, reason. What happens at a bound is decided
//! where it is enforced and counted in a metric. Bounds check each other at compile time.
//!
//! tuning.md lists each of them (`tests/architecture.rs` compares).

use std::time::Duration;

// ---- Messaging: what a client may send (contract §1.4, §1.11) ----

/// Longest message text, in Unicode code points; a room's `maximumMessageLength` may lower it.
pub const CONTENT_CHARS_MAX: usize = 500;
/// Message, token and event attributes: keys and values together, in UTF-8 bytes (contract: 1 KB).
pub const ATTRIBUTES_BYTES_MAX: usize = 1024;
/// `RequestId`, in bytes. SDKs send 36; four times that leaves room for tracing ids.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// `RequestId` in an ERROR, in bytes as the client wrote it: a request may be refused because its id is
/// too long, and its sender still waits for just that id. Of a longer one nothing is echoed.
pub const REQUEST_ID_ECHOED_BYTES_MAX: usize = 1024;
/// `UserId`, in code points (contract §2).
pub const USER_ID_CHARS_MAX: usize = 128;
/// `Reason` of a deletion or a disconnect, in code points.
pub const REASON_CHARS_MAX: usize = 256;
/// `eventName`, in code points.
pub const EVENT_NAME_CHARS_MAX: usize = 100;
/// Largest WebSocket message a chat client may send, in bytes. Nothing legal exceeds about 6 KiB
/// (500 characters of 4 bytes, 1 KB attributes, ids, escapes); the rest is room for unknown keys. Of a
/// compressed message also what comes out, while it comes out.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Largest WebSocket message that is read over, in bytes, compressed or not: refused with 413 and its
/// `RequestId`, and the connection goes on, since a paste is a mistake and no attack. Nothing of it is
/// kept but the id. A longer one ends the connection.
pub const OVERSIZED_BYTES_MAX: usize = 128 * 1024;
/// Fragments of one WebSocket message, empty ones counted. Clients send one; this stops fragment bombs.
pub const FRAGMENTS_MAX: u32 = 64;
/// Frames of one connection that are no accepted request, per second: refused requests, binary messages,
/// pings, pongs, fragments before the last. A client that answers each ping and sends ten messages a second
/// in six fragments each needs 51.
pub const OVERHEAD_FRAMES_PER_SECOND: u32 = 100;
/// Such frames a connection may send at once. A program that sends all it has in one loop is told of each
/// refusal; beyond this it is cut, since it does not listen.
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
/// Offers of permessage-deflate looked at in one handshake; browsers make one, libraries two.
pub const EXTENSION_OFFERS_MAX: usize = 8;
/// From accept to `101`, TLS included; not extended by progress (slowloris).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes in progress on one shard, those not counted whose whole head is there when they are
/// accepted, and fewer where the limit on open files does not allow as many. Refused connections count
/// until they have read their answer. Beyond it the oldest one is given up for the newcomer.
pub const HANDSHAKES_MAX: usize = 4096;
/// Handshakes in progress for which descriptors are kept on each shard, whatever else needs some.
pub const HANDSHAKES_MIN: usize = 64;
/// What one address may have of those places when all are taken, in percent: whoever has more loses its
/// oldest ones first. A crowd behind one address of its provider reaches it only while the table is full,
/// and then with 500 handshakes under way; it loses none that lasts less long than 500 others.
pub const ADDRESS_HANDSHAKES_PERCENT: u32 = 12;
/// Refused handshakes of one address, per second and shard, that get an answer; further ones are closed
/// without. A stadium behind one address of its provider, 60,000 viewers with expired tokens, is answered
/// within a minute. A valid token is welcome all the same: its owner may be the fool's neighbour.
pub const ADDRESS_REFUSALS_PER_SECOND: u32 = 1000;
/// What each shard admits beyond its part of `messaging.address_connections`: connections are spread over
/// shards by chance, and four of five must not be refused for it.
pub const ADDRESS_CONNECTIONS_SLACK: usize = 16;
/// Addresses (IPv6: networks of 64 bits) one shard or listener knows something of; about 100 bytes each.
/// Beyond it those that come new are not counted.
pub const ADDRESSES_MAX: usize = 262_144;
/// PROXY protocol header, in bytes. Addresses take 52 at most; the rest is what proxies say of TLS and of
/// themselves.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;
/// One read of the handshake: a browser's head with a token is about 1.5 KB.
pub const HANDSHAKE_READ_BYTES: usize = 4096;
/// Connections accepted before deliveries get their turn: half a millisecond of newcomers.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
/// How long the kernel waits for a connection's first bytes before it is accepted without. A request is
/// one round trip behind its connect; the kernel rounds to its own retransmissions.
pub const ACCEPT_DEFERRED: Duration = Duration::from_secs(1);
/// Connections waiting for accept in the kernel, per listener; the kernel caps it at `somaxconn`.
pub const ACCEPT_BACKLOG: i32 = 4096;

/// How long the kernel keeps what a client does not acknowledge, on a connection or behind its end.
pub const UNACKNOWLEDGED_MAX: Duration = IDLE_MAX;

/// Ciphertext of one TLS connection without a complete record: two records of 16 KiB and their
/// framing; handshake messages are far shorter.
pub const TLS_INCOMING_BYTES_MAX: usize = 36 * 1024;
/// First guess for what TLS adds to a send; grows as rustls asks.
pub const TLS_RECORD_OVERHEAD_BYTES: usize = 512;

/// Certificate and key files, in bytes, a hundred long chains: longer ones are refused.
pub const WATCHED_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What is compared of a file that is looked at for changes, in bytes; of a longer one its length as well. All
/// access keys there may be are 3 MB, with long names 5.
pub const COMPARED_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A certificate whose end is nearer is warned of: tools renew 30 days before it, so two weeks have failed.
pub const CERTIFICATE_EXPIRY_NOTICE: Duration = Duration::from_hours(14 * 24);
/// Between two warnings of a certificate that clients refuse, while nothing changes.
pub const CERTIFICATE_WARN_INTERVAL: Duration = Duration::from_hours(1);
/// Between two warnings of one that they will refuse soon.
pub const CERTIFICATE_SOON_INTERVAL: Duration = Duration::from_hours(24);
/// Names of a certificate in a warning; the others are counted.
pub const CERTIFICATE_NAMES_MAX: usize = 5;

// ---- Tokens ----

/// How long a token may be used to connect. IVS: 60 minutes; below 2 minutes the SDK refreshes hotly.
pub const TOKEN_LIFE: Duration = Duration::from_hours(1);
/// Longest `tokens.life_minutes` may make it: so long a replaced sealing key is kept.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(24);
/// Session length: bounds and default, in minutes (contract §2).
pub const SESSION_MINUTES_MAX: u32 = 180;
/// Default of `sessionDurationInMinutes`.
pub const SESSION_MINUTES_DEFAULT: u32 = 60;
/// Used tokens one shard remembers until they expire; 48 bytes each. 5 million is an hour of
/// 1,400 handshakes a second. At the bound new handshakes are refused with 429.
pub const USED_TOKENS_MAX: usize = 5_000_000;
/// One segment of the journal of used tokens, in bytes: 32,768 uses. Small enough that removing one does not
/// hold up its shard, and few enough at 1,400 uses a second for an hour: 160.
pub const JOURNAL_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Used tokens forgotten at one look, one look a second: 1.4 ms of the shard's time if it remembers 2.5 million,
/// 1.9 ms if 5 million. Each is a miss of every cache.
pub const TOKENS_FORGOTTEN_PER_LOOK_MAX: usize = 16_384;
/// As many are at most forgotten at one look as half of a segment has: removing one at a look keeps up.
const _: () = assert!((TOKENS_FORGOTTEN_PER_LOOK_MAX as u64) * 32 < JOURNAL_SEGMENT_BYTES);
/// Sealing keys whose forgotten tokens are told apart. Beyond it the oldest one's latest expiry counts for all.
pub const FORGOTTEN_KEYS_MAX: usize = 16;

// ---- Room log and delivery (design: the room log) ----

/// Largest server frame, in bytes: a message whose every character needs a six-byte escape. Content
/// 3,000, attributes of message and sender 6,144 each, `"":"",` of their members 3,100, the two ids
/// 768 each, names and header 300: 20,224.
pub const FRAME_BYTES_MAX: usize = 20 * 1024;
/// One contiguous stretch of a busy room's log, in bytes. A send ends where a stretch ends: in smaller
/// ones every second send of a crowded room is cut in two.
pub const SEGMENT_BYTES: usize = 1024 * 1024;
/// A stretch that was full earlier is followed by a larger one, so that a room's open end takes
/// no more memory than what it says in some seconds, and lasts for many rounds over its members.
pub const SEGMENT_LASTS_MIN: Duration = Duration::from_secs(4);
/// The most of a room log that one send carries, in bytes: three quarters of [`SOCKET_SEND_BYTES`], in which
/// the kernel counts its own bookkeeping too.
pub const SEND_BYTES_MAX: usize = 384 * 1024;
/// The same over TLS, in bytes of plaintext, which are copied and sealed for each viewer.
pub const SEALED_SEND_BYTES_MAX: usize = 256 * 1024;
/// First stretch of a quiet room's log, in bytes: most rooms never need more.
pub const SEGMENT_BYTES_MIN: usize = 4 * 1024;
/// What a room log keeps for slow readers, in bytes. A cursor that falls out of it is a slow client.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Full segments a room keeps for reuse until it falls silent: those the window pins, and as many again
/// as sends to slow clients may pin a little longer.
pub const SEGMENTS_SPARE: usize = 2 * (WINDOW_BYTES_MAX / SEGMENT_BYTES);
/// What a room log keeps for slow readers, in age.
pub const WINDOW_AGE_MAX: Duration = Duration::from_secs(10);
/// Ceiling of the pace: the longest a busy room collects messages before one flush.
pub const PACE_CEILING: Duration = Duration::from_millis(50);
/// A send without progress for so long ends the connection.
pub const SEND_STALL_MAX: Duration = Duration::from_secs(20);
/// Frames waiting in one connection's private lane, in bytes. Beyond it the connection is closed.
pub const LANE_BYTES_MAX: usize = 64 * 1024;
/// Frames waiting in a private lane, in bytes, from which on only the newest ping is answered.
pub const PONGS_BYTES_MAX: usize = 4 * 1024;
/// Kernel send buffer asked for each connection, in bytes: without it 1,000 stalled readers pin
/// gigabytes of kernel memory (the kernel's own ceiling is about 4 MB each).
pub const SOCKET_SEND_BYTES: usize = 512 * 1024;
/// Window of compressed chat frames, as a power of two (RFC 7692 §7.1.2.1): 4 KiB holds all but the
/// largest frames whole. Offers of a smaller one are declined; Python's clients ask for 12.
pub const DEFLATE_WINDOW_BITS: u8 = 12;
/// Members on the home shard above which new members of a room are spread over all shards.
pub const STRIPE_MEMBERS_MIN: usize = 512;

// ---- Rings ----

/// Connections in the table of one ring; a further ring is made when all are full. The kernel also
/// bounds it by the limit on open files. 8 bytes each, allocated with the ring.
pub const RING_CONNECTIONS_MAX: u32 = 65_536;
/// Rings of one shard: a million connections each even where the limit on open files is 1,024.
pub const RINGS_MAX: u16 = 1024;
/// Submission queue entries of a ring.
pub const RING_ENTRIES: u32 = 4096;
/// Completion queue entries: four sends' worth per submission slot; overflow is kept by the kernel.
pub const RING_COMPLETIONS: u32 = 4 * RING_ENTRIES;
/// Receive buffers a shard's first ring lends to the kernel. Power of two. Exhaustion re-arms the
/// receive.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Receive buffers of each further ring: its connections are mostly readers.
pub const RECEIVE_BUFFERS_FURTHER: u16 = 256;
/// One receive buffer, in bytes, parser padding included. A chat request is 200-700 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 4096;
/// Bytes behind a message that the JSON parser may read (their content does not matter).
pub const PARSE_PADDING_BYTES: usize = 64;
/// Entries into a ring beyond a turn's first while connections wait for room: one for each twenty of them,
/// as long as the kernel has deferred work. It does 20 to 40 pieces each time, and a receive stands behind
/// all connections that became writable before it. With nobody waiting none: what is received later is
/// received together.
pub const ENTERS_FURTHER_MAX: u32 = 64;
/// Sends submitted in one turn before receives and small rooms are served again: a millisecond of the
/// kernel's work. 512 made a small room beside a huge one wait 5 ms instead of 2, and carried no more.
pub const SENDS_PER_TURN_MAX: usize = 128;
/// Sends of one turn, beside those, that go on with earlier ones: rests of what full sockets took in part,
/// and what completed sends left to do. A turn whose walks need less gives them the rest.
pub const RESUMES_PER_TURN_MAX: usize = SENDS_PER_TURN_MAX / 2;

// ---- Mailboxes ----

/// Commands waiting between two threads, and as many requests. Full: requests are refused (ERROR 429), and
/// whatever makes commands waits, but for what a turn has begun to say.
pub const MAILBOX_COMMANDS: usize = 8192;
/// What a room holds back, in bytes, while a shard with members of it does not keep up; beyond it requests are
/// refused (ERROR 429). More than the window would reach nobody.
pub const ROOM_UNFLUSHED_BYTES_MAX: usize = WINDOW_BYTES_MAX;

// ---- Liveness (contract §1.8) ----

/// Granule of the connection timers; deadlines are met within two of them.
pub const CHECK_GRANULE: Duration = Duration::from_millis(250);
/// Between two pings to a connection that sent nothing else; keeps NAT entries open.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Silence (no pong, no frame) after which a connection is taken for dead: two missed pongs.
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
/// `DELETE_MESSAGE` of all rooms together, WebSocket and HTTP, per second; the same for
/// `DISCONNECT_USER`.
pub const ACCOUNT_MODERATIONS_PER_SECOND: u32 = 100;
/// Concurrent connections, all rooms.
pub const CONNECTIONS_MAX_AWS: usize = 50_000;
/// Rooms of one account.
pub const ROOMS_MAX: usize = 50_000;
/// Logging configurations of one account.
pub const LOGGING_CONFIGURATIONS_MAX: usize = 10;

// ---- Process ----

/// Descriptors of one shard: two rings, their eventfds and pollers, listener, journal. Twelve counted.
pub const DESCRIPTORS_PER_SHARD: u64 = 16;
/// Limit on open files below which the server does not start, those of the shards aside: 256 for
/// listeners, database, API connections and handshakes, 256 for review handlers. Viewers need none:
/// they are in the tables of rings; what a limit leaves beyond this goes to handshakes and further rings.
pub const DESCRIPTORS_MIN: u64 = 512;

// ---- Log lines ----

/// Between two lines of one kind that strangers can cause, of one thread. Those in between are counted.
pub const LOG_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that wait for whoever reads standard error. A line is about 300 bytes: as many as fit the next.
pub const LOG_QUEUE_LINES_MAX: usize = 8192;
/// Bytes of them. A reader that pauses for a second while everything goes wrong misses nothing.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One line, in bytes. The longest holds a backtrace, or several texts of [`LOG_TEXT_CHARS_MAX`].
pub const LOG_LINE_BYTES_MAX: usize = 32 * 1024;
/// Text of somebody else in one field of a line, in code points: twice the longest user id.
pub const LOG_TEXT_CHARS_MAX: usize = 256;
/// A panic's backtrace, in bytes; the innermost calls come first.
pub const LOG_BACKTRACE_BYTES_MAX: usize = 12 * 1024;
/// How long the process's end waits for lines to be written.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

// ---- Control plane ----

/// Request body of the control listener, in bytes. The largest legal one has 50 full tags, each of
/// their 19,200 characters two `\u` escapes of six bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// From the first byte of a request to the end of its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Declared body of a request that is refused before it was read, in bytes, up to which it is dropped and the
/// connection goes on; calls are mostly smaller. For a larger one the connection ends.
pub const UNREAD_BODY_BYTES_MAX: u64 = 64 * 1024;
/// What is read and dropped of a client that still sends although its connection has ended, in bytes, so that no
/// reset overtakes the answer. Sixteen times the largest legal body.
pub const LINGER_BYTES_MAX: usize = 16 * BODY_BYTES_MAX;
/// How long that may take, on the control listener; on the other one it is part of the handshake.
pub const LINGER_MAX: Duration = Duration::from_secs(10);
/// One line of a copy of the database, in bytes: a record with 50 full tags has about 80 KB.
pub const BACKUP_LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Access keys in the data directory; about 300 bytes each.
pub const ACCESS_KEYS_MAX: usize = 10_000;
/// Between two looks whether the access keys changed: what a revoked key has left. A look costs one
/// system call; a key that is not known yet is looked for at once.
pub const ACCESS_KEYS_CHECK: Duration = Duration::from_millis(100);
/// Logging configurations one room may name.
pub const ROOM_LOGGING_MAX: usize = 3;
/// Tags of one resource.
pub const TAGS_MAX: usize = 50;
/// Resources on one page of a listing; also the default.
pub const PAGE_ITEMS_MAX: u32 = 50;
/// Writes that share one commit, hence one sync.
pub const COMMIT_WRITES_MAX: usize = 256;
/// Connections of the control listener, fewer where the limit on open files does not allow as many. Beyond
/// it the oldest one without a call under way is given up for the newcomer.
pub const CONTROL_CONNECTIONS_MAX: usize = 4096;
/// What one address may have of those when all are taken, in percent: whoever has more loses its oldest ones
/// first. Application servers are few; four of them may have all.
pub const CONTROL_ADDRESS_PERCENT: u32 = 25;
/// Connections beyond those, for health and metrics alone, while all have a call under way.
pub const CONTROL_HEALTH_CONNECTIONS_MAX: usize = 64;
/// Request head of the control listener, in bytes. UntagResource names up to 50 keys in its URI, 58 KB
/// in Chinese; 64 KiB is the most the HTTP library takes for a URI.
pub const CONTROL_HEAD_BYTES_MAX: usize = 72 * 1024;
/// Silence between two requests of one connection of the control listener; the first one has
/// [`HANDSHAKE_TIMEOUT`]. SDKs keep connections for later; more than this costs us descriptors.
pub const CONTROL_IDLE_MAX: Duration = Duration::from_mins(1);
/// From an authenticated call to its answer, which waits for the disk or a shard. Its caller is told then
/// that the outcome is not known; the call goes on.
pub const CALL_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Calls that wait for the disk or a shard, those whose callers were told so included.
pub const CALLS_OPEN_MAX: usize = 4096;
/// From a question of the control thread to the shard's answer; a busy shard's turn takes milliseconds.
pub const SHARD_ANSWER_MAX: Duration = Duration::from_secs(5);
/// From a health check to a turn of every thread. A turn takes milliseconds, a commit to a slow disk a
/// second.
pub const LIVENESS_MAX: Duration = Duration::from_secs(5);
/// From the order to end to a thread's end. Longer than the archive waits for its disk.
pub const THREAD_STOP_MAX: Duration = Duration::from_secs(10);
/// From the panic of a task that is begun anew to its next beginning.
pub const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// For calls under way when the server stops.
pub const CONTROL_DRAIN_MAX: Duration = Duration::from_secs(2);
/// Difference between `X-Amz-Date` (or a signed `Date`) and our clock that is still accepted.
pub const SIGNATURE_SKEW_MAX: Duration = Duration::from_mins(5);

// ---- Message review (contract §4) ----

/// From a message's arrival to its verdict, waiting for a free request included; then the room's
/// `fallbackResult` decides. As the managed service.
pub const REVIEW_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest time-out that may be configured: a sender waits so long for the answer.
pub const REVIEW_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Messages one room holds until they are decided: five seconds at the highest room rate. At the
/// bound new ones are refused with ERROR 429.
pub const REVIEW_HELD_PER_ROOM_MAX: usize = 512;
/// Messages all rooms of one shard hold, 16 MB of usual ones: 32 rooms at their bound. At the bound
/// ERROR 429.
pub const REVIEW_HELD_MAX: usize = 16_384;
/// Requests under way to one handler: 6,400 messages a second at 10 ms each.
pub const REVIEW_IN_FLIGHT_PER_HANDLER_MAX: usize = 64;
/// Requests under way to all handlers, a connection each: four handlers that hang.
pub const REVIEW_IN_FLIGHT_MAX: usize = 256;
/// Reviews of one handler that wait for a free request. Beyond it the room's `fallbackResult` decides
/// at once.
pub const REVIEW_WAITING_PER_HANDLER_MAX: usize = 1024;
/// Reviews of all handlers that wait or are under way; beyond it as above.
pub const REVIEW_OPEN_MAX: usize = 8192;
/// Handlers whose state is kept while they are idle; beyond it the idle ones are forgotten.
pub const REVIEW_HANDLERS_MAX: usize = 1024;
/// Answer of a handler, in bytes. A legal one is below 20 KB, escapes included; the rest is room for
/// unknown members.
pub const REVIEW_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// `Reason` of a denial, in code points; a longer one is cut.
pub const REVIEW_REASON_CHARS_MAX: usize = 256;
/// How long an idle connection to a handler is kept.
pub const REVIEW_IDLE_MAX: Duration = Duration::from_secs(30);

// ---- Chat logs (contract §5) ----

/// Frames one shard has handed to the archive and not yet heard of, in bytes. At the bound frames are
/// delivered but not logged, and counted.
pub const LOG_HANDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest a logged room's frames wait for the spool before they are delivered all the same: a disk
/// that stalls must not stall the chat.
pub const LOG_HOLD_MAX: Duration = Duration::from_millis(250);
/// One spool entry, in bytes: the largest frame in its envelope. A longer one on disk is damage.
pub const LOG_ENTRY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// One file of a spool, in bytes: what is given up at a time when a spool is full.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// What one configuration's spool keeps while its destination does not take it, in bytes. Beyond it the
/// oldest segment is dropped and its undelivered records counted.
pub const LOG_SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long undelivered records are kept; CloudWatch Logs takes none older than 14 days.
pub const LOG_AGE_MAX: Duration = Duration::from_hours(72);
/// Records read from a spool at once, in bytes: what one delivery holds in memory, and the most an
/// object holds before compression.
pub const LOG_STRETCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time covered by one object of a room; as the managed service, "5 minutes on average".
pub const LOG_OBJECT_WINDOW: Duration = Duration::from_mins(5);
/// How long records for CloudWatch Logs and Firehose are collected; the managed service takes 10 s.
pub const LOG_STREAM_LINGER: Duration = Duration::from_secs(5);
/// Notes of when records came that one spool keeps, 16 bytes each: one a minute for almost three days, then one
/// in two minutes, and so on. They tell how old what is not delivered is.
pub const LOG_AGES_MAX: usize = 4096;
/// How often spools are synced to disk: what a loss of power can cost. SIGKILL costs nothing.
pub const LOG_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a failed delivery; doubles up to [`LOG_RETRY_MAX`].
pub const LOG_RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause after a failed delivery.
pub const LOG_RETRY_MAX: Duration = Duration::from_secs(30);
/// Halvings of a refused request without a pause, until something is taken: enough to find one record
/// among [`PUT_LOG_EVENTS_MAX`].
pub const LOG_HALVINGS_MAX: u32 = 16;
/// Records that are dropped one by one because their destination refuses them, until it takes something again:
/// beyond it the destination is suspected instead, and nothing is dropped.
pub const LOG_DROPS_MAX: u32 = 16;
/// Refusals after which a record is dropped although the destination takes nothing else, if it is named as at
/// fault or others wait behind it: about eight minutes of pauses.
pub const LOG_REFUSALS_MAX: u32 = 20;
/// One request to a destination, connecting included.
pub const LOG_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Answer of a destination that is read, in bytes.
pub const LOG_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Events of one `PutLogEvents` (CloudWatch Logs).
pub const PUT_LOG_EVENTS_MAX: usize = 10_000;
/// Messages of one `PutLogEvents`, in bytes, [`PUT_LOG_EVENT_OVERHEAD_BYTES`] added for each.
pub const PUT_LOG_EVENTS_BYTES_MAX: usize = 1_048_576;
/// What CloudWatch Logs adds to each event's length.
pub const PUT_LOG_EVENT_OVERHEAD_BYTES: usize = 26;
/// Time between the oldest and the newest event of one `PutLogEvents`.
pub const PUT_LOG_EVENTS_SPAN_MAX: Duration = Duration::from_hours(24);
/// Records of one `PutRecordBatch` (Firehose).
pub const PUT_RECORDS_MAX: usize = 500;
/// Records of one `PutRecordBatch`, in bytes; 4 MiB less room for their encoding.
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
    FRAME_BYTES_MAX <= LANE_BYTES_MAX,
    "one frame fits an empty lane"
);
const _: () = assert!(
    PROXY_HEADER_BYTES_MAX <= HANDSHAKE_READ_BYTES && ADDRESS_HANDSHAKES_PERCENT <= 100,
    "a proxy's header fits the first look"
);
const _: () = assert!(
    RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS_FURTHER.is_power_of_two(),
    "the kernel's buffer ring wants it"
);
const _: () = assert!(
    RING_CONNECTIONS_MAX <= 1 << 16,
    "a place in a table has 16 bits"
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
    LOG_ENTRY_BYTES_MAX <= LOG_STRETCH_BYTES_MAX && LOG_ENTRY_BYTES_MAX <= PUT_LOG_EVENTS_BYTES_MAX,
    "any record fits a delivery"
);
const _: () = assert!(
    SEGMENT_BYTES <= LOG_HANDED_BYTES_MAX,
    "a segment can be handed over"
);
const _: () = assert!(
    2 * LOG_SEGMENT_BYTES <= LOG_SPOOL_BYTES_MAX,
    "a spool has a segment to write and one to drop"
);
