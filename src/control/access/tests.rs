//! The key file: its protection, and how a running server follows changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::*;
use crate::control::operation::Operation;
use crate::durable::faults::{Plan as FaultPlan, Scratch, plans, under};
use keyfile::KeyRecord;
use uproar_proto::base::clock::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_440_938_160);

/// A data directory that is gone afterwards.
struct Directory(Scratch);

impl Directory {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn file(&self) -> KeyFile {
        KeyFile::of(&self.0.0)
    }

    fn create(&self, operations: &[Operation], resources: &[&str]) -> AccessKey {
        let record = KeyRecord {
            id: String::new(),
            name: "of a test".to_owned(),
            created: 0,
            operations: operations.iter().map(|op| op.name().to_owned()).collect(),
            resources: resources.iter().map(|text| (*text).to_owned()).collect(),
        };
        self.file().create(record, NOW).expect("creates")
    }

    fn edit(&self, name: &str, edit: impl FnOnce(String) -> String) {
        let path = self.path(name);
        let text = fs::read_to_string(&path).expect("reads");
        fs::write(&path, edit(text)).expect("writes");
    }
}

/// Goal: keys come back with their secrets and rights; the file alone does not reveal a secret.
#[test]
fn keys_are_kept_sealed() {
    let directory = Directory::new();
    assert_eq!(directory.file().open().expect("opens").len(), 0);
    let mint = directory.create(&[Operation::CreateChatToken], &["*:room/A*"]);
    let admin = directory.create(&[], &[]);
    assert_ne!(mint.id, admin.id);
    assert!(mint.id.len() == 20 && mint.id.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(mint.secret.len(), 40);
    let keys = directory.file().open().expect("opens");
    assert_eq!(keys[0].0.id, mint.id);
    assert_eq!(keys[0].0.secret, mint.secret);
    assert!(!keys[0].1.allows(Operation::CreateRoom) && !keys[0].1.covers(None));
    assert!(keys[1].1.allows(Operation::CreateRoom) && keys[1].1.covers(None));
    let text = fs::read_to_string(directory.path("access-keys")).expect("reads");
    assert!(text.contains(&mint.id) && !text.contains(&*mint.secret));
    for name in ["access-keys", "master-key"] {
        let mode = fs::metadata(directory.path(name))
            .expect("is there")
            .permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600, "{name}");
    }
    assert!(directory.file().revoke(&mint.id).expect("revokes"));
    assert!(!directory.file().revoke(&mint.id).expect("looks"));
    let left = directory.file().list().expect("lists");
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].id.as_str(), left[0].created),
        (admin.id.as_str(), NOW.secs())
    );
}

/// Goal: whoever has the file but not the master key can neither widen rights nor move secrets.
#[test]
fn changes_by_hand_are_refused() {
    let directory = Directory::new();
    let key = directory.create(&[Operation::CreateChatToken], &["*:room/A*"]);
    let widenings: [&dyn Fn(String) -> String; 4] = [
        &|text| text.replace("CreateChatToken", "DeleteRoom"),
        &|text| text.replace("*:room/A*", "*"),
        &|text| text.replace(&key.id, "AKUPAAAAAAAAAAAAAAAA"),
        &|text| text.replace("of a test", "of nobody"),
    ];
    let good = fs::read_to_string(directory.path("access-keys")).expect("reads");
    for widen in widenings {
        directory.edit("access-keys", widen);
        let refused = directory.file().open().expect_err("sealed");
        assert!(matches!(refused, KeyFileError::Seal { .. }), "{refused}");
        directory.edit("access-keys", |_| good.clone());
    }
    directory.edit("access-keys", |text| text.replace('{', "["));
    let refused = directory.file().open().expect_err("no JSON");
    assert!(matches!(refused, KeyFileError::Damaged { .. }), "{refused}");
    directory.edit("access-keys", |_| good.clone());
    fs::remove_file(directory.path("master-key")).expect("removes");
    let refused = directory.file().open().expect_err("sealed for good");
    assert!(refused.to_string().contains("master-key"), "{refused}");
    assert!(
        !directory.path("master-key").exists(),
        "a lost key is not made up"
    );
}

/// Goal: a file that others can read is refused.
#[test]
fn files_that_others_can_read_are_refused() {
    let directory = Directory::new();
    directory.create(&[], &[]);
    for name in ["access-keys", "master-key"] {
        let path = directory.path(name);
        for mode in [0o640, 0o604, 0o660, 0o700 | 0o010] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("sets");
            let refused = directory.file().open().expect_err("readable");
            assert!(refused.to_string().contains(name), "{refused}");
            assert!(matches!(refused, KeyFileError::Open { .. }), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("sets");
    }
    directory.file().open().expect("private again");
    let path = directory.path("access-keys");
    let elsewhere = directory.path("elsewhere");
    fs::rename(&path, &elsewhere).expect("moves");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("links");
    let refused = directory.file().open().expect_err("a link");
    assert!(matches!(refused, KeyFileError::Open { .. }), "{refused}");
}

/// Goal: a running server has a new key at once, drops a revoked one after the next check, and
/// keeps its keys when the file is damaged.
#[test]
fn a_running_server_follows_the_file() {
    let directory = Directory::new();
    let configured = AccessKey {
        id: "AKIDCONFIGURED000000".to_owned(),
        secret: Zeroizing::new("secret".to_owned()),
    };
    let keys = Keys::load([configured.clone()], directory.file()).expect("loads");
    let start = Tick::from_nanos(1_000_000_000);
    assert!(keys.find(&configured.id, start).is_some());
    assert!(keys.find("AKUPAAAAAAAAAAAAAAAA", start).is_none());
    let first = directory.create(&[], &[]);
    assert!(keys.find(&first.id, start).is_some(), "at once");
    directory.edit("access-keys", |text| text + "!");
    let second = start.after(ACCESS_KEYS_CHECK);
    assert!(
        keys.find(&first.id, second).is_some(),
        "a damaged file changes nothing"
    );
    directory.edit("access-keys", |text| text.trim_end_matches('!').to_owned());
    directory.file().revoke(&first.id).expect("revokes");
    let third = second.after(ACCESS_KEYS_CHECK);
    assert!(keys.find(&first.id, third).is_none());
    assert!(keys.find(&configured.id, third).is_some());
}

/// Goal: with any failing operation, alone or in pairs, or a kill anywhere: the file is whole, has
/// every key that was printed, and opens; a revoked key is gone.
#[test]
fn key_files_survive_every_failure() {
    let record = || KeyRecord {
        id: String::new(),
        name: String::new(),
        created: 0,
        operations: Vec::new(),
        resources: Vec::new(),
    };
    let act = |file: &KeyFile| {
        let first = file.create(record(), NOW)?;
        let second = file.create(record(), NOW)?;
        file.revoke(&first.id)?;
        Ok::<_, KeyFileError>((first.id, second.id))
    };
    let scratch = Scratch::new();
    let (_, operations) = under(FaultPlan::default(), || act(&KeyFile::of(&scratch.0)));
    let mut whole = 0;
    for plan in plans(operations.len()) {
        let scratch = Scratch::new();
        let file = KeyFile::of(&scratch.0);
        let (outcome, _) = under(plan.clone(), || act(&file));
        let open = file
            .open()
            .unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        if let Ok((revoked, kept)) = outcome {
            whole += 1;
            let ids: Vec<&String> = open.iter().map(|(key, _)| &key.id).collect();
            assert_eq!(ids, [&kept], "{plan:?}: {revoked} was revoked");
        }
        file.create(record(), NOW).expect("the disk is good again");
        let names = scratch.names();
        assert_eq!(
            names,
            ["access-keys", "access-keys.lock", "master-key"],
            "{plan:?}"
        );
    }
    assert!(whole > 0);
}
