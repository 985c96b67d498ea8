//! The audit file: whole lines whatever happens, within its bounds, read again newest first.

use std::fs;
use std::io::Write;

use serde_json::Value;

use super::files::{Files, list, path};
use super::read::Page;
use super::*;
use crate::durable::faults::{Plan, Scratch, plans, under};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::number::wide;

fn entry(target: &str, room: &str) -> Entry {
    Entry {
        time: UnixTime::from_secs(1),
        by: By::User("mod \"1\"\n".to_owned()),
        action: "DELETE_MESSAGE",
        room: room.to_owned(),
        target: target.to_owned(),
        reason: "spam\nand more".to_owned(),
        result: "ok".to_owned(),
    }
}

fn line(target: &str) -> Vec<u8> {
    let mut line = Vec::new();
    entry(target, "arn:r").write(&mut line);
    line
}

fn targets(page: &Page) -> Vec<&str> {
    let of = |record: &'_ Value| record["target"].as_str().is_some();
    assert!(page.records.iter().all(of));
    page.records
        .iter()
        .filter_map(|record| record["target"].as_str())
        .collect()
}

/// Goal: a record is one line of JSON whatever its texts are, and is read again as it was.
#[test]
fn a_record_is_a_line() {
    let scratch = Scratch::new();
    let mut files = Files::new(scratch.0.clone(), 1 << 30);
    files.append(&line("M1")).expect("written");
    let text = fs::read_to_string(path(&scratch.0, 1)).expect("a file");
    assert_eq!(text.lines().count(), 1);
    let page = page(&scratch.0, None, None, 10).expect("read");
    let wanted = serde_json::json!({
        "time": "1970-01-01T00:00:01Z", "by": {"kind": "user", "id": "mod \"1\"\n"}, "action": "DELETE_MESSAGE",
        "room": "arn:r", "target": "M1", "reason": "spam\nand more", "result": "ok",
    });
    assert_eq!(page.records, [wanted]);
}

/// Goal: no text has a character that a tool takes for the end of a line, in Python or JavaScript either.
#[test]
fn no_text_tears_a_line() {
    let scratch = Scratch::new();
    let target = "a\u{85}b\u{2028}c\u{2029}d\r\u{b}\u{c}\u{1c}";
    let mut files = Files::new(scratch.0.clone(), 1 << 30);
    files.append(&line(target)).expect("written");
    let text = fs::read_to_string(path(&scratch.0, 1)).expect("a file");
    let breaks = |c: &char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(c);
    assert_eq!(text.chars().filter(breaks).collect::<String>(), "\n");
    assert_eq!(
        targets(&page(&scratch.0, None, None, 1).expect("read")),
        [target]
    );
}

/// Goal: pages go through all files, newest first, once each, and a room's are its own.
#[test]
fn pages_go_back_through_all_files() {
    let scratch = Scratch::new();
    let mut files = Files::new(scratch.0.clone(), 1 << 30).with_file_bytes(400);
    for at in 0..10 {
        let mut lines = Vec::new();
        let room = if at % 2 == 0 { "arn:even" } else { "arn:odd" };
        entry(&at.to_string(), room).write(&mut lines);
        files.append(&lines).expect("written");
    }
    assert!(list(&scratch.0).expect("listed").len() > 2);
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = page(&scratch.0, None, before, 3).expect("read");
        seen.extend(targets(&page).into_iter().map(str::to_owned));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen.join(""), "9876543210");
    let odd = page(&scratch.0, Some("arn:odd"), None, 3).expect("read");
    assert_eq!(targets(&odd), ["9", "7", "5"]);
    let none = page(&scratch.0.join("none"), None, None, 3).expect("no directory, no records");
    assert_eq!(none, Page::default());
}

/// Goal: the oldest files go, and what is left is within the bound and the newest.
#[test]
fn old_files_are_removed() {
    let scratch = Scratch::new();
    let (bytes_max, file_bytes) = (2000, 400);
    let mut files = Files::new(scratch.0.clone(), bytes_max).with_file_bytes(file_bytes);
    for at in 0..50 {
        files.append(&line(&at.to_string())).expect("written");
        let bytes: u64 = list(&scratch.0)
            .expect("listed")
            .iter()
            .map(|(_, bytes)| bytes)
            .sum();
        assert!(bytes <= bytes_max, "{bytes}");
    }
    let page = page(&scratch.0, None, None, 100).expect("read");
    let seen = targets(&page);
    assert_eq!(seen.first(), Some(&"49"));
    assert!(seen.len() >= 4, "{seen:?}");
}

/// Goal: a restart goes on in the newest file, behind whole lines; a process beside it, as in an upgrade, begins a file of
/// its own, so that lines of two never mix.
#[test]
fn a_torn_line_is_mended_and_two_processes_have_two_files() {
    let scratch = Scratch::new();
    let append = |target: &str| {
        let mut files = Files::new(scratch.0.clone(), 1 << 30);
        files.append(&line(target)).expect("written");
        files
    };
    drop(append("one"));
    let mut torn = fs::OpenOptions::new()
        .append(true)
        .open(path(&scratch.0, 1))
        .expect("there");
    torn.write_all(b"{\"time\":\"19").expect("torn");
    drop(torn);
    let old = append("two");
    let text = fs::read_to_string(path(&scratch.0, 1)).expect("a file");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.ends_with('}')), "{text}");
    drop(append("three"));
    assert_eq!(list(&scratch.0).expect("listed").len(), 2);
    drop(old);
    let page = page(&scratch.0, None, None, 9).expect("read");
    assert_eq!(targets(&page), ["three", "two", "one"]);
}

/// Goal: whatever fails and wherever a kill strikes, the file has whole lines, in order, and every line whose append was
/// answered well. Method: every plan of the faulty disk for two appends and a new file between them.
#[test]
fn every_failure_leaves_whole_lines() {
    let run = |scratch: &Scratch| {
        let mut files = Files::new(scratch.0.clone(), 1 << 30).with_file_bytes(300);
        ["1", "2", "3"]
            .into_iter()
            .filter(|target| files.append(&line(target)).is_ok())
            .collect::<Vec<_>>()
    };
    let (_, operations) = under(Plan::default(), || run(&Scratch::new()));
    for plan in plans(operations.len()) {
        let scratch = Scratch::new();
        let (kept, _) = under(plan.clone(), || run(&scratch));
        // The next start mends what is torn.
        let mut files = Files::new(scratch.0.clone(), 1 << 30);
        files.append(&line("end")).expect("the disk is well again");
        let page = page(&scratch.0, None, None, 9).expect("read");
        let mut seen = targets(&page);
        seen.reverse();
        assert_eq!(seen.pop(), Some("end"));
        for target in &kept {
            assert!(seen.contains(target), "{plan:?}: {seen:?} lacks {target}");
        }
        assert!(seen.is_sorted(), "{plan:?}: {seen:?}");
        for (number, _) in list(&scratch.0).expect("listed") {
            let content = fs::read(path(&scratch.0, number)).expect("a file");
            assert!(content.is_empty() || content.ends_with(b"\n"), "{plan:?}");
        }
    }
}

/// Goal: what is noted is written and counted, what does not fit the queue is counted as lost, a closed log ends its thread
/// with everything written, and one that is off costs nothing.
#[test]
fn the_log_counts_what_becomes_of_records() {
    let scratch = Scratch::new();
    let log = AuditLog::default();
    log.note(|| unreachable!("it is off"));
    assert_eq!(log.room_arn(&"R"), "");
    let work = log.open(scratch.0.clone(), 1 << 30, "arn:room/".to_owned());
    let work = work.expect("first");
    assert_eq!(log.room_arn(&"R"), "arn:room/R");
    for at in 0..AUDIT_QUEUE_MAX + 3 {
        log.note(|| entry(&at.to_string(), "arn:r"));
    }
    log.close();
    log.note(|| entry("late", "arn:r"));
    run(work, || {});
    let written = log.figures.written.load(Ordering::Relaxed);
    assert_eq!(written, u64::try_from(AUDIT_QUEUE_MAX).expect("small"));
    assert_eq!(log.figures.lost_queue.load(Ordering::Relaxed), 4);
    let page = page(&scratch.0, None, None, 1).expect("read");
    assert_eq!(targets(&page), [(AUDIT_QUEUE_MAX - 1).to_string()]);
}

fn record(log: &AuditLog, target: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(log.record(entry(target, "arn:r")));
}

/// Goal: the removal of the directory, of the file that is written, or of that with another one in its place loses no later
/// record, and the next file says that one was removed; its number is a new one.
#[test]
fn removed_files_are_begun_anew() {
    let remove: [fn(&Path); 3] = [
        |directory| fs::remove_dir_all(directory).expect("removed"),
        |directory| fs::remove_file(path(directory, 2)).expect("removed"),
        |directory| {
            fs::write(directory.join("x"), "").expect("written");
            fs::rename(directory.join("x"), path(directory, 2)).expect("replaced");
        },
    ];
    for remove in remove {
        let scratch = Scratch::new();
        let directory = scratch.0.join("audit");
        // Another process, which has the first file.
        let mut other = Files::new(directory.clone(), 1 << 30);
        other.append(&line("old")).expect("written");
        let log = AuditLog::default();
        let work = log
            .open(directory.clone(), 1 << 30, String::new())
            .expect("first");
        let thread = std::thread::spawn(move || run(work, || {}));
        record(&log, "1");
        remove(&directory);
        record(&log, "2");
        log.close();
        thread.join().expect("it ends");
        let page = page(&directory, None, None, 9).expect("read");
        assert_eq!(targets(&page).get(..2), Some(&["2", ""][..]));
        assert_eq!(page.records[1]["action"], "gap");
        assert!(path(&directory, 3).exists(), "no number names two files");
        assert_eq!(log.figures.lost_disk.load(Ordering::Relaxed), 0);
    }
}

/// Goal: a file that was removed while nothing is noted is told of all the same, once.
#[test]
fn a_removal_is_noticed_while_nothing_is_noted() {
    let scratch = Scratch::new();
    let log = AuditLog::default();
    let work = log
        .open(scratch.0.clone(), 1 << 30, String::new())
        .expect("first");
    let thread = std::thread::spawn(move || run(work, || {}));
    record(&log, "1");
    fs::remove_file(path(&scratch.0, 1)).expect("removed");
    while !path(&scratch.0, 2).exists() {
        std::thread::yield_now();
    }
    log.close();
    thread.join().expect("it ends");
    assert_eq!(
        targets(&page(&scratch.0, None, None, 9).expect("read")),
        [""]
    );
}

/// Goal: while no new file can be made the full one goes on, within a bound; beyond it records are refused, as the caller
/// counts and logs.
#[test]
fn a_full_file_does_not_go_on_for_ever() {
    let scratch = Scratch::new();
    let bytes = wide(line("1").len());
    let mut files = Files::new(scratch.0.clone(), 1 << 30).with_file_bytes(2 * bytes);
    files.append(&line("1")).expect("written");
    files.append(&line("2")).expect("written");
    let without_next = Plan {
        fails: vec![0],
        ..Plan::default()
    };
    let mut kept = Vec::new();
    for target in ["3", "4", "5", "6"] {
        let append = || files.append(&line(target)).is_ok();
        let (is_kept, operations) = under(without_next.clone(), append);
        assert_eq!(operations.first().map(String::as_str), Some("create"));
        kept.extend(is_kept.then_some(target));
    }
    assert_eq!(kept, ["3", "4"]);
    files.append(&line("7")).expect("a new file");
    let page = page(&scratch.0, None, None, 9).expect("read");
    assert_eq!(targets(&page), ["7", "4", "3", "2", "1"]);
}

/// Goal: what is missing at the end is told in the file if the disk takes it again by then.
#[test]
fn a_gap_is_told_at_the_end() {
    let scratch = Scratch::new();
    let log = AuditLog::default();
    let directory = scratch.0.join("audit");
    fs::write(&directory, "in the way").expect("a file instead of the directory");
    let work = log
        .open(directory.clone(), 1 << 30, String::new())
        .expect("first");
    let thread = std::thread::spawn(move || run(work, || {}));
    record(&log, "1");
    record(&log, "2");
    fs::remove_file(&directory).expect("out of the way");
    log.close();
    thread.join().expect("it ends");
    let page = page(&directory, None, None, 9).expect("read");
    assert_eq!(targets(&page), ["2"], "how many are missing");
    assert_eq!(page.records[0]["action"], "gap");
}

/// Goal: records that the disk refuses are counted, and the file tells of them once it takes records again.
#[test]
fn a_gap_is_told_in_the_file() {
    let scratch = Scratch::new();
    let log = AuditLog::default();
    let directory = scratch.0.join("audit");
    fs::write(&directory, "in the way").expect("a file instead of the directory");
    let work = log.open(directory.clone(), 1 << 30, String::new());
    let work = work.expect("first");
    let thread = std::thread::spawn(move || run(work, || {}));
    record(&log, "1");
    record(&log, "2");
    assert_eq!(log.figures.lost_disk.load(Ordering::Relaxed), 2);
    fs::remove_file(&directory).expect("out of the way");
    record(&log, "3");
    log.close();
    thread.join().expect("it ends");
    let page = page(&directory, None, None, 9).expect("read");
    assert_eq!(
        targets(&page),
        ["3", "2"],
        "the newest, and how many are missing"
    );
    assert_eq!(page.records[1]["action"], "gap");
}
