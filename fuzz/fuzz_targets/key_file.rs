//! The files of access keys: damage is an error with a sentence, never a key that was not made, and what is listed is
//! what opens.
//!
//! Input: whether the master key is damaged, and how, then edits (place, byte) of a genuine file, or, behind a
//! zero, the whole file.

#![no_main]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use uproar::control::access::keyfile::{KeyFile, KeyRecord};
use uproar_proto::base::clock::UnixTime;

struct Genuine {
    directory: PathBuf,
    keys: Vec<u8>,
    master: Vec<u8>,
    secrets: Vec<(String, String)>,
}

fn genuine() -> &'static Genuine {
    static GENUINE: OnceLock<Genuine> = OnceLock::new();
    GENUINE.get_or_init(|| {
        let name = format!("uproar-fuzz-key-file-{}", std::process::id());
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let directory = parent.join(name);
        fs::create_dir_all(&directory).expect("a directory");
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("ours");
        let file = KeyFile::of(&directory);
        let secrets = (0..2).map(|number| {
            let record = KeyRecord {
                id: String::new(),
                name: format!("key {number}"),
                created: 0,
                operations: vec!["CreateChatToken".to_owned()],
                resources: Vec::new(),
            };
            let made = file.create(record, UnixTime::from_secs(1_800_000_000));
            let made = made.expect("a key");
            (made.id, made.secret.to_string())
        });
        let secrets = secrets.collect();
        Genuine {
            keys: fs::read(directory.join("access-keys")).expect("made"),
            master: fs::read(directory.join("master-key")).expect("made"),
            directory,
            secrets,
        }
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((&[how, place, byte], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let genuine = genuine();
    let (mut keys, mut master) = (genuine.keys.clone(), genuine.master.clone());
    if how == 0 {
        keys = rest.to_vec();
    } else {
        for edit in rest.as_chunks::<3>().0 {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % keys.len();
            keys[at] = edit[2];
        }
    }
    if how >= 0x80 {
        let at = usize::from(place) % master.len();
        master[at] = byte;
    }
    let write = |name, content: &[u8]| {
        let path = genuine.directory.join(name);
        fs::write(&path, content).expect("memory");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
    };
    write("access-keys", &keys);
    write("master-key", &master);
    let file = KeyFile::of(&genuine.directory);
    let listed = file.list();
    match file.open() {
        Ok(opened) => {
            let listed = listed.expect("what opens can be listed");
            assert_eq!(listed.len(), opened.len());
            for (key, _grant) in opened {
                let made = genuine.secrets.iter().find(|(id, _)| *id == key.id);
                let (_, secret) = made.expect("sealed by us, so made by us");
                assert_eq!(*key.secret, *secret);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
