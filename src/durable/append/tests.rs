use std::fs;

use super::super::faults::{Plan, Scratch, plans, under};
use super::*;

const RECORD: usize = 8;

fn record(number: u8) -> [u8; RECORD] {
    [number; RECORD]
}

/// The whole records of a file, as its reader sees them.
fn whole(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("reads");
    let records = bytes.chunks_exact(RECORD);
    records.map(|record| record[0]).collect()
}

/// Goal: with any failure, alone or in pairs with any gap: acknowledged records are there in order, refused ones are
/// not once the disk works again, and nothing follows garbage. After a kill anywhere: acknowledged records are
/// there, and after recovery nothing else.
#[test]
fn acknowledged_records_stay_and_refused_ones_do_not() {
    let run = |path: &Path| {
        let mut acknowledged = Vec::new();
        let Ok(mut file) = Appender::create(path, 0o600) else {
            return (None, acknowledged);
        };
        for number in 1..=4 {
            let pair = [record(number), record(number + 100)].concat();
            if file.append(&pair).is_ok() {
                acknowledged.extend([number, number + 100]);
            }
        }
        (Some(file), acknowledged)
    };
    let scratch = Scratch::new();
    let (_, operations) = under(Plan::default(), || run(&scratch.0.join("f")));
    let (mut refused, mut damaged) = (0, 0);
    // A failed write adds a truncation: more operations than in a good run.
    for plan in plans(operations.len() + 4) {
        let scratch = Scratch::new();
        let path = scratch.0.join("f");
        let ((file, mut acknowledged), _) = under(plan.clone(), || run(&path));
        let Some(mut file) = file else { continue };
        refused += usize::from(acknowledged.len() < 8);
        assert_eq!(file.len(), (acknowledged.len() * RECORD) as u64);
        damaged += usize::from(file.damaged);
        let found = whole(&path);
        assert!(found.starts_with(&acknowledged), "{plan:?}: {found:?}");
        if plan.killed.is_some() {
            let len = file.len();
            drop(file);
            file = Appender::recover(&path, len).expect("recovers");
            assert_eq!(whole(&path), acknowledged);
        }
        file.append(&record(99)).expect("the disk is good again");
        acknowledged.push(99);
        assert_eq!(whole(&path), acknowledged, "{plan:?}");
        assert_eq!(fs::read(&path).expect("reads").len() as u64, file.len());
    }
    assert!(refused > 50, "only {refused}");
    assert!(damaged > 0, "no undo failed: the case is not covered");
}

/// Goal: a torn tail that cannot be cut off now is cut off before the next append, or nothing is appended.
#[test]
fn nothing_is_appended_after_a_torn_tail() {
    let scratch = Scratch::new();
    let path = scratch.0.join("f");
    fs::write(&path, [1; RECORD + 3]).expect("writes");
    let refuse = |fails: &[usize]| Plan {
        fails: fails.to_vec(),
        ..Plan::default()
    };
    let (file, _) = under(refuse(&[1]), || Appender::recover(&path, RECORD as u64));
    let mut file = file.expect("opens");
    let (outcome, _) = under(refuse(&[0]), || file.append(&record(2)));
    assert!(outcome.is_err());
    assert_eq!(fs::read(&path).expect("reads").len(), RECORD + 3);
    file.append(&record(2)).expect("cut off, then appended");
    assert_eq!(whole(&path), [1, 2]);
}
