use std::os::unix::fs::PermissionsExt;

use super::super::faults::{Plan, Scratch, plans, under};
use super::*;

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"the new content, which is longer";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

/// Goal: with any failure, alone or in pairs, and a kill anywhere: all of the old content or all of the new; `Ok`
/// means the new one with the given mode, and the next replacement works and cleans up.
#[test]
fn a_file_has_all_of_the_old_content_or_all_of_the_new() {
    let replaced = |path: &Path| replace(path, NEW, Access::PRIVATE, Survives::PowerLoss);
    let scratch = Scratch::new();
    let (_, operations) = under(Plan::default(), || replaced(&scratch.0.join("f")));
    let (mut failed, mut tried) = (0, 0);
    for there in [false, true] {
        for plan in plans(operations.len() + 1) {
            let scratch = Scratch::new();
            let path = scratch.0.join("f");
            if there {
                fs::write(&path, OLD).expect("writes");
                let open = fs::Permissions::from_mode(0o644);
                fs::set_permissions(&path, open).expect("sets");
            }
            let (outcome, seen) = under(plan.clone(), || replaced(&path));
            let content = fs::read(&path).ok();
            let old = there.then_some(OLD);
            let after_rename = seen.iter().any(|operation| operation == "sync directory");
            match outcome {
                Ok(()) => assert_eq!(content.as_deref(), Some(NEW), "{plan:?}"),
                Err(_) if after_rename => assert_eq!(content.as_deref(), Some(NEW), "{plan:?}"),
                Err(_) => {
                    failed += 1;
                    let took_effect = plan.late && content.as_deref() == Some(NEW);
                    assert!(
                        took_effect || content.as_deref() == old,
                        "{plan:?}: {content:?}"
                    );
                }
            }
            tried += 1;
            replaced(&path).expect("the disk is good again");
            assert_eq!(fs::read(&path).expect("reads"), NEW);
            assert_eq!(mode(&path), 0o600);
            assert_eq!(scratch.names(), ["f"], "{plan:?}");
        }
    }
    assert!(failed > 50 && failed < tried, "{failed} of {tried}");
}

/// Goal: a power failure cannot leave a name without its content: content, then name, then directory.
#[test]
fn content_is_on_disk_before_its_name_and_the_name_before_the_answer() {
    let scratch = Scratch::new();
    let path = scratch.0.join("f");
    let operations = |survives| {
        under(Plan::default(), || {
            replace(&path, NEW, Access::PUBLIC, survives)
        })
        .1
    };
    assert_eq!(
        operations(Survives::PowerLoss),
        [
            "create",
            "write",
            "write",
            "sync",
            "rename",
            "sync directory"
        ]
    );
    assert_eq!(
        operations(Survives::Kill),
        ["create", "write", "write", "rename"]
    );
}

/// Goal: a leftover's content and mode do not reach the new file; another file's leftover is not touched, nor is one
/// that is being written.
#[test]
fn a_leftover_is_removed_and_lends_nothing() {
    let scratch = Scratch::new();
    let path = scratch.0.join("f");
    let leftovers = ["f.new", "f.77-0.new", "f.lock", "g.77-0.new", "f.78-0.new"];
    for name in leftovers {
        fs::write(scratch.0.join(name), b"half").expect("writes");
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(scratch.0.join(name), open).expect("sets");
    }
    let held = File::open(scratch.0.join("f.78-0.new")).expect("opens");
    held.lock().expect("locks");
    replace(&path, NEW, Access::PRIVATE, Survives::PowerLoss).expect("replaces");
    assert_eq!(scratch.names(), ["f", "f.78-0.new", "f.lock", "g.77-0.new"]);
    assert_eq!(mode(&path), 0o600);
}

/// Goal: of several concurrent replacements one wins with all its content.
#[test]
fn replacements_at_once_do_not_mix() {
    let scratch = Scratch::new();
    let path = scratch.0.join("f");
    std::thread::scope(|scope| {
        for byte in b'a'..b'e' {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..50 {
                    let content = vec![byte; 20_000];
                    replace(path, &content, Access::PUBLIC, Survives::Kill).expect("replaces");
                    let read = fs::read(path).expect("reads");
                    assert_eq!(read.len(), 20_000);
                    assert!(read.iter().all(|byte| *byte == read[0]));
                }
            });
        }
    });
    assert_eq!(scratch.names(), ["f"]);
}
