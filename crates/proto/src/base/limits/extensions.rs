//! Bounds of what rooms have beyond IVS Chat.

use std::time::Duration;

// ---- Rooms beyond IVS Chat ----

/// Seconds of a room's slow mode: an hour, as most platforms have it.
pub const SLOW_SECONDS_MAX: u32 = 3_600;
/// Seconds for which a room with unique messages remembers them: with the rate of a room it bounds what is remembered.
pub const UNIQUE_SECONDS_MAX: u32 = 600;
/// Users and texts that the rooms of one shard remember for slow mode and unique messages: some 60 MB, as many as three rooms
/// at their rate have in slow mode of an hour.
pub const MODE_RECORDS_MAX: usize = 1_048_576;
const _: () = assert!(MODE_RECORDS_MAX >= 2 * 100 * 3_600);
/// Seconds that a room may demand a user to have been known for: ten years.
pub const AGE_SECONDS_MAX: u32 = 315_360_000;
/// Seconds of a ban that ends by itself: ten years.
pub const BAN_SECONDS_MAX: u32 = 315_360_000;
/// Bans of a room, and of those that hold in all rooms: the work of moderators for years.
pub const BANS_PER_ROOM_MAX: usize = 10_000;
/// Bans in all: some 40 MB of records, and a tenth of that for whoever looks one up.
pub const BANS_MAX: usize = 100_000;
/// Seconds of a time-out that a moderator gives without a number, as on Twitch.
pub const TIMEOUT_SECONDS_DEFAULT: u32 = 600;
/// Addresses that a ban bars beside its user: more are no household's.
pub const BAN_ADDRESSES_MAX: usize = 16;
/// How long a ban bars them: addresses change their owners.
pub const BAN_ADDRESSES_TIME: Duration = Duration::from_hours(24);
/// The shortest time between two times that values over tags, and pins, are taken back at their ends: of several that end one soon after
/// the other the later ones are late by this much at most.
pub const OVERRIDES_LOOK_MIN: Duration = Duration::from_secs(1);
/// Bans that are over, or of rooms that are deleted, that one look removes; it comes every [`OVERRIDES_LOOK`]. They hold no
/// longer than they should all the same.
pub const BANS_REMOVED_PER_LOOK: usize = 1_000;
/// Seconds between two events of a room's number of viewers: beyond five minutes nobody looks.
pub const VIEWERS_SECONDS_MAX: u32 = 300;
/// Connections above which a room is told its number of viewers every [`VIEWERS_LARGE_PAUSE`] at most, and above which every
/// [`VIEWERS_VAST_PAUSE`]: 200 bytes to each of a million viewers every 15 s are 0.1 Gbit/s.
pub const VIEWERS_LARGE: u64 = 10_000;
/// See [`VIEWERS_LARGE`].
pub const VIEWERS_VAST: u64 = 100_000;
/// See [`VIEWERS_LARGE`].
pub const VIEWERS_LARGE_PAUSE: Duration = Duration::from_secs(5);
/// See [`VIEWERS_LARGE`].
pub const VIEWERS_VAST_PAUSE: Duration = Duration::from_secs(15);
/// How much sooner than its tag asks a room is told its number of viewers together with a message: half a second has several
/// messages of a room that talks, and a tenth of the interval changes no rate that somebody asked for.
pub const VIEWERS_HEAD_START_MAX: Duration = Duration::from_millis(500);
/// Viewers that a node of a cluster has told of count for this long: a node that dies takes its viewers with it.
pub const VIEWERS_FORGOTTEN: Duration = Duration::from_secs(5);
/// Number of viewers that has not changed is told to other nodes again after this: twice within
/// [`VIEWERS_FORGOTTEN`], since one message may be lost.
pub const VIEWERS_REPORT_PAUSE: Duration = Duration::from_secs(2);
/// Rooms in one message between nodes about viewers: some 40 KB.
pub const VIEWERS_REPORTED_MAX: usize = 1_024;
/// Users of a room that GetRoomStats counts exactly; more are estimated.
pub const UNIQUE_EXACT_MAX: usize = 50_000;
/// Connections of a room above which ListRoomUsers refuses: each page looks at all of them in one turn.
pub const LISTED_CONNECTIONS_MAX: u64 = 10_000;
/// Users or rooms on a page of ListRoomUsers or ListActiveRooms.
pub const LISTED_PAGE_MAX: u32 = 100;
/// Rooms that the pages of ListActiveRooms show together: those with most viewers.
pub const ACTIVE_ROOMS_MAX: usize = 10_000;
/// How long a node of a cluster waits for what other nodes know of a room's users.
pub const CROWD_ANSWER_MAX: Duration = Duration::from_secs(1);
/// Roles that a tag names: more than any community has.
pub const ROLES_MAX: usize = 16;
/// Characters of a role: it is a badge in each message of its user.
pub const ROLE_CHARS_MAX: usize = 32;
/// Characters of a tag's value, as in the API.
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Commands of members that wait for the control thread: people type them, and each connection has its rate.
pub const MEMBER_ORDERS_MAX: usize = 1_024;
/// How often all rooms are looked at for values over tags, and pins, that end by time and that another node has stored; those of
/// this one are known at once.
pub const OVERRIDES_LOOK: Duration = Duration::from_secs(30);
/// Seconds that a moderator's change of a mode lasts if it ends by itself: a day.
pub const OVERRIDE_SECONDS_MAX: u32 = 86_400;

/// Seconds for which a message is pinned if that ends by itself: a month of shows.
pub const PIN_SECONDS_MAX: u32 = 2_592_000;

// ---- Tallies and reactions ----

/// Open tallies of a room: a show asks one question, and a few beside it.
pub const TALLIES_OPEN_MAX: usize = 4;
/// Tallies of a room that have ended and are still told to who asks: back ends fetch a result within minutes.
pub const TALLIES_KEPT: usize = 4;
/// Options of a tally: what fits on a phone.
pub const TALLY_OPTIONS_MAX: usize = 10;
/// Question and options of a tally, in bytes: each of its events has them.
pub const TALLY_TEXT_BYTES_MAX: usize = 1024;
/// Characters of a tally's id.
pub const TALLY_ID_CHARS_MAX: usize = 32;
/// Longest tally, in seconds: a day.
pub const TALLY_SECONDS_MAX: u32 = 86_400;
/// Between two events of an open tally: a viewer sees bars move, and a million get 300 bytes each.
pub const TALLY_INTERVAL: Duration = Duration::from_secs(1);
/// Voters that the tallies of a shard's rooms remember, some 30 bytes each: four rooms of a million.
pub const TALLY_VOTERS_MAX: usize = 4_194_304;
/// Taps in one request: what fingers do in the time that a client collects them.
pub const REACTION_TAPS_MAX: u32 = 50;
/// Milliseconds for which reactions are summed, at least: below, a crowd's sends cost more than the sums are worth.
pub const REACTIONS_MILLIS_MIN: u32 = 250;
/// Milliseconds for which reactions are summed, at most: later nobody knows what they were for.
pub const REACTIONS_MILLIS_MAX: u32 = 10_000;
/// Milliseconds for which reactions are summed if the room's tags do not say.
pub const REACTIONS_MILLIS_DEFAULT: u32 = 1_000;
/// How long a node of a cluster collects votes and reactions for a room's home: a member waits no longer for its answer than
/// it takes to notice.
pub const CASTS_INTERVAL: Duration = Duration::from_millis(250);
/// Votes in one request to a room's home, some 80 bytes each.
pub const CASTS_PER_ASK_MAX: usize = 1_000;
/// Votes of a room that a node collects in that time.
pub const CASTS_WAITING_MAX: usize = 32_768;

// ---- The demo page of `uproar dev` ----

/// Viewers of the page's storm. A laptop admits them in a second, and their descriptors fit below the usual 4,096 of a shell
/// that was not asked.
pub const DEMO_STORM_VIEWERS_MAX: usize = 2_000;
/// A storm ends by itself after this: enough to see it, and a forgotten one does not keep a laptop warm.
pub const DEMO_STORM_LIFE: Duration = Duration::from_mins(1);
/// A storm ends when its page has not asked for its figures for this long. Browsers let hidden pages ask once a second.
pub const DEMO_STORM_UNWATCHED_MAX: Duration = Duration::from_secs(5);
/// Orders of the page that wait for the control thread: a person clicks one at a time.
pub const DEMO_ORDERS_MAX: usize = 8;
/// Figures of the page's room are looked up at most this often, however many pages ask.
pub const DEMO_LOOK_PAUSE: Duration = Duration::from_millis(200);
const _: () = assert!(DEMO_STORM_UNWATCHED_MAX.as_secs() < DEMO_STORM_LIFE.as_secs());
/// Messages that a joining viewer gets: four screens of a phone.
pub const HISTORY_MESSAGES_MAX: u32 = 200;
/// Messages that a viewer who comes back gets: what a busy room says in the seconds of a tunnel.
pub const RESUME_MESSAGES_MAX: usize = 200;
/// Seconds for which a room remembers messages: the shortest time that a tag asks for, and a day.
pub const HISTORY_AGE_SECONDS_MIN: u32 = 60;
/// See [`HISTORY_AGE_SECONDS_MIN`]; without a tag it counts.
pub const HISTORY_AGE_SECONDS_MAX: u32 = 86_400;
/// Seconds for which a room remembers where a viewer who left stood; without a tag, and at most.
pub const RESUME_SECONDS: u32 = 120;
/// See [`RESUME_SECONDS`].
pub const RESUME_SECONDS_MAX: u32 = 600;
/// Frames before the place of a viewer who left that he gets again: the kernel had them, and they may be lost.
pub const RESUME_OVERLAP_FRAMES: u64 = 64;
/// A connection that ends sooner may not have had what it was sent when it came: its user gets that again.
pub const RESUME_SETTLED: Duration = Duration::from_secs(5);
/// Bytes of remembered frames that one joining viewer gets.
pub const HISTORY_JOIN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of messages that the rooms of one shard remember: 6,000 rooms of 50 messages and 40 KB each.
pub const REMEMBERED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Viewers of whom the rooms of one shard remember where they stand or stood: some 24 MB.
pub const STANDS_MAX: usize = 262_144;
/// Deleted messages of a room that are cut out of sends which slow readers have begun; the oldest are let go first.
pub const REDACTED_FRAMES_MAX: usize = 1_024;
/// Bytes of remembered frames that a node answers to one that has just begun: a quarter of what brokers take in one message.
pub const RECALLED_BYTES_MAX: usize = 256 * 1024;
/// Rooms of which a node that begins asks the others at once.
pub const RECALLS_AT_ONCE: usize = 64;
/// How long a node that begins waits for what the others remember, before viewers may come.
pub const RECALL_MAX: Duration = Duration::from_secs(3);
/// Deletions that a node remembers until it has what the others remember; beyond them it takes nothing.
pub const RECALL_REDACTIONS_MAX: usize = 256;
/// Deletions that a purge of one user tells clients of, each as the event that every app knows.
pub const PURGE_EVENTS_MAX: usize = 50;
/// Bytes of remembered frames for joining viewers that a node sends each second, if the configuration does not say.
pub const HISTORY_BYTES_PER_SECOND: u64 = 128 * 1024 * 1024;

// -- the audit file --

/// Records that wait to be written: two seconds of all that profile `aws` lets be moderated, twenty times.
pub const AUDIT_QUEUE_MAX: usize = 8_192;
/// Records that are written at once.
pub const AUDIT_BATCH_MAX: usize = 256;
/// How long an answer of the API or to a command waits for its record: longer than a healthy disk takes, shorter than
/// clients wait.
pub const AUDIT_WRITE_WAIT_MAX: Duration = Duration::from_secs(1);
/// What a loss of power may cost of the audit file.
pub const AUDIT_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// A file of the audit is followed by another one at this size: some 20,000 records.
pub const AUDIT_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Files of the audit, whatever their size: each upgrade may begin one.
pub const AUDIT_FILES_MAX: usize = 1_024;
/// All files of the audit together, unless it is configured otherwise.
pub const AUDIT_MIB: u32 = 64;
/// The least that can be configured, in MiB: the file that is written, and one before it.
pub const AUDIT_MIB_MIN: u32 = 8;
/// The most, in MiB.
pub const AUDIT_MIB_MAX: u32 = 65_536;
/// Records in one answer of ListAuditRecords.
pub const AUDIT_PAGE_MAX: u32 = 100;
/// Bytes of the audit that one call of ListAuditRecords looks through.
pub const AUDIT_SCAN_BYTES: usize = 8 * 1024 * 1024;

// ---- Rules ----

/// Sets of rules of a server or a cluster: a list for each language and a few of the house. It also bounds the label `set` of
/// a metric.
pub const RULE_SETS_MAX: usize = 50;
/// Characters of a set's name, and of a rule's id: people type them.
pub const RULE_NAME_CHARS_MAX: usize = 32;
/// Sets that one room follows: each costs a pass over each message.
pub const RULE_SETS_PER_ROOM_MAX: usize = 8;
/// Rules of a set: a handful of actions with their exceptions, with room.
pub const RULES_PER_SET_MAX: usize = 100;
/// Patterns of a set, of all its rules, what they allow included: the largest public word lists have a few thousand.
pub const RULE_PATTERNS_MAX: usize = 10_000;
/// Bytes of a set as JSON: all that one call may carry. Compiled it takes some ten times as much: its automaton, and at most 0.4 MB of hashes
/// to pass over what has none of its words.
pub const RULE_SET_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(RULE_SET_BYTES_MAX <= super::BODY_BYTES_MAX);
/// Characters of a word or phrase. It bounds how many patterns end at one place of a message.
pub const RULE_WORD_CHARS_MAX: usize = 64;
/// Rules of a set with regular expressions: each goes over the message by itself.
pub const RULE_REGEX_RULES_MAX: usize = 8;
/// Characters of a regular expression.
pub const RULE_REGEX_CHARS_MAX: usize = 512;
/// Bytes of one rule's compiled regular expressions: some twenty `\w`. Matching takes at most its states times the length of a message, so it
/// also bounds the time that a bad expression costs.
pub const RULE_REGEX_BYTES_MAX: usize = 512 * 1024;
/// Bytes of what one rule's regular expressions keep to be fast, for each thread that uses them.
pub const RULE_REGEX_CACHE_BYTES: usize = 256 * 1024;
/// Letters that a message has at least before its capitals count: a short cry is none.
pub const CAPS_LETTERS_MIN: usize = 10;
/// Percent of a message's letters above which capitals are too many.
pub const CAPS_PERCENT_MAX: usize = 70;
/// Times that a character may follow itself, from which on it is too often.
pub const REPEATED_CHARS: usize = 10;
/// Times that a word may follow itself, from which on it is too often.
pub const REPEATED_WORDS: usize = 5;
/// Messages of a room that are held for its moderators: more than a team reads in [`HELD_FOR`].
pub const HELD_PER_ROOM_MAX: usize = 500;
/// Messages that all rooms of one shard hold so, some 50 MB.
pub const HELD_MAX: usize = 50_000;
/// How long a message is held: then nobody remembers what it answered, and it is denied.
pub const HELD_FOR: Duration = Duration::from_mins(2);
/// Held messages in one answer of ListHeld: some 10 KB each at the worst, within one message between the nodes of a cluster.
pub const HELD_PAGE_MAX: u32 = 50;
/// From a message to the verdict of a review after its delivery: time for a language model.
pub const AFTER_REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests to handlers after delivery at one time: half of all, so that slow ones never take the others' place.
pub const AFTER_REVIEW_IN_FLIGHT_MAX: usize = super::REVIEW_IN_FLIGHT_MAX / 2;
