//! `[[keys]]` and the key that variables give: who may call the API, and which file has a key's secret.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::check::Check;
use super::error::ConfigError;
use super::mode::DEV_KEY_ID;
use super::raw::Key;
use super::source::{Source, Sources};
use crate::control::access::AccessKey;
use crate::control::access::keyfile::KeyFile;
use crate::durable;
use uproar_proto::base::limits::ACCESS_SECRET_FILE_BYTES_MAX;

/// The secret of the one key in `sample.toml`.
pub(super) const SAMPLE_SECRET: &str = "change-me-to-something-long-and-random";

/// What variables say of one key beside those of the file.
pub(super) const VARIABLES: [&str; 3] = ["keys.id", "keys.secret", "keys.secret_file"];

/// Reads the secrets that lie in files, so that a reload sees a new one. Afterwards each key has a secret.
///
/// # Errors
///
/// A key has no secret or two, or its file cannot be used.
pub(super) fn read_secrets(keys: &mut [Key], sources: &Sources) -> Result<(), ConfigError> {
    for key in keys {
        match (&key.secret, &key.secret_file) {
            (Some(_), None) => {}
            (None, Some(path)) => {
                let secret = read(path).map_err(|detail| ConfigError::SecretFile {
                    path: path.clone(),
                    detail,
                    origin: source_of(key, "keys.secret_file", sources),
                })?;
                key.secret = Some(secret);
            }
            (secret, _) => {
                let (given, must) = if secret.is_some() {
                    ("secret and secret_file", "one of both, not both")
                } else {
                    (
                        "without secret",
                        "one with secret, or with secret_file, a file that has it",
                    )
                };
                return Err(ConfigError::Value {
                    key: "keys",
                    value: format!("{} {given}", key.id),
                    origin: source_of(key, "keys.id", sources),
                    must: must.into(),
                });
            }
        }
    }
    Ok(())
}

/// The one line of a file that is the server's alone. Whoever replaces it by writing to it may leave it empty for a
/// moment: then it is refused, and a running server keeps what it has.
fn read(path: &Path) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    // Not opened before this is known: opening a pipe waits for its other end.
    let found = fs::metadata(path).map_err(text)?;
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if let Some(mode) = durable::exposed(&found) {
        return Err(format!(
            "it has mode {mode:04o}: others may read it; it must be 0600, or 0640 and root's where the server is \
             another user's. If anybody has, replace the key"
        ));
    }
    let mut secret = String::new();
    let file = File::open(path).map_err(text)?;
    let most = ACCESS_SECRET_FILE_BYTES_MAX;
    file.take(most + 1)
        .read_to_string(&mut secret)
        .map_err(text)?;
    if usize::try_from(most).is_ok_and(|most| secret.len() > most) {
        return Err(format!("it has more than {most} bytes"));
    }
    // Editors and `echo` end a line.
    let line = secret.strip_suffix('\n').unwrap_or(&secret);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty".to_owned());
    }
    if line.chars().any(char::is_control) {
        return Err("it has more than one line, or control characters".to_owned());
    }
    Ok(line.to_owned())
}

fn source_of(key: &Key, name: &str, sources: &Sources) -> Source {
    sources.of(if key.is_of_variables { name } else { "keys" })
}

/// The valid keys.
pub(super) fn resolve(
    given: Vec<Key>,
    data_dir: &Path,
    dev: bool,
    check: &Check<'_>,
) -> Result<Vec<AccessKey>, ConfigError> {
    if given.is_empty() {
        let stored = KeyFile::of(data_dir).exists();
        let value = match &stored {
            Ok(_) => "empty".to_owned(),
            Err(error) => format!("empty, and {}: {error}", data_dir.display()),
        };
        check.holds(
            stored.is_ok_and(|stored| stored),
            "keys",
            value,
            "at least one [[keys]] with id and secret or secret_file in the file, one by UPROAR_KEYS__ID and \
             UPROAR_KEYS__SECRET_FILE, or one made by `uproar keys create`",
        )?;
    }
    let mut keys: Vec<AccessKey> = Vec::with_capacity(given.len());
    for key in given {
        valid(&key, &keys, dev, check)?;
        keys.push(AccessKey {
            id: key.id,
            secret: Zeroizing::new(key.secret.unwrap_or_default()),
        });
    }
    Ok(keys)
}

fn valid(key: &Key, before: &[AccessKey], dev: bool, check: &Check<'_>) -> Result<(), ConfigError> {
    let holds = |holds, name, value: &str, must: &'static str| {
        if holds {
            return Ok(());
        }
        Err(ConfigError::Value {
            key: name,
            value: value.to_owned(),
            origin: source_of(key, name, check.0),
            must: must.into(),
        })
    };
    let Key { id, secret, .. } = key;
    let secret = secret.as_deref().unwrap_or_default();
    holds(
        before.iter().all(|before| before.id != *id),
        "keys.id",
        id,
        "an id that no other of the [[keys]] has",
    )?;
    holds(
        id != DEV_KEY_ID || dev,
        "keys.id",
        id,
        "a key of your own: this one is public",
    )?;
    let valid = (16..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    holds(valid, "keys.id", id, "16 to 128 letters and digits")?;
    let of_secret = if key.secret_file.is_some() {
        "keys.secret_file"
    } else {
        "keys.secret"
    };
    let length = match secret.chars().count() {
        1 => "1 character long".to_owned(),
        count => format!("{count} characters long"),
    };
    holds(
        secret.chars().count() >= 16,
        of_secret,
        &length,
        "at least 16 characters",
    )?;
    holds(
        secret != SAMPLE_SECRET,
        of_secret,
        "that of the sample",
        "a secret of your own: that one is public",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::{Flags, Loaded, Mode, settle};
    use super::*;
    use crate::durable::faults::Scratch;

    const ID: &str = "AKIDEXAMPLE000000001";
    const SECRET: &str = "topmost-0123456789";

    /// Names and values.
    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn load(text: &str, variables: Variables) -> Result<Loaded, String> {
        let file = Some((Path::new("uproar.toml"), text));
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let outcome = settle(
            Mode::Serve,
            file,
            variables.iter().map(own),
            &Flags::default(),
        );
        outcome.map_err(|error| error.to_string())
    }

    fn pairs(loaded: &Loaded) -> Vec<(&str, &str)> {
        let keys = loaded.settings.keys.iter();
        keys.map(|key| (&*key.id, &**key.secret)).collect()
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).expect("writes");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes");
    }

    fn entry(path: &Path) -> String {
        format!(
            "[[keys]]\nid = \"{ID}\"\nsecret_file = \"{}\"\n",
            path.display()
        )
    }

    /// Goal: a secret comes from a file or from variables, beside the keys of the file, and nothing prints it.
    #[test]
    fn a_secret_lies_in_a_file_or_in_variables() {
        let scratch = Scratch::new();
        let path = scratch.0.join("secret");
        write(&path, format!("{SECRET}\n").as_bytes(), 0o600);
        let shown = path.display().to_string();
        let other = "AKIDEXAMPLE000000002";
        let by_file = entry(&path);
        for (text, variables, expected) in [
            (&*by_file, vec![], vec![(ID, SECRET)]),
            (
                "",
                vec![("UPROAR_KEYS__ID", ID), ("UPROAR_KEYS__SECRET", SECRET)],
                vec![(ID, SECRET)],
            ),
            (
                "",
                vec![
                    ("UPROAR_KEYS__SECRET_FILE", &*shown),
                    ("UPROAR_KEYS__ID", ID),
                ],
                vec![(ID, SECRET)],
            ),
            (
                &by_file,
                vec![
                    ("UPROAR_KEYS__ID", other),
                    ("UPROAR_KEYS__SECRET", "another-secret-of-it"),
                ],
                vec![(ID, SECRET), (other, "another-secret-of-it")],
            ),
        ] {
            let loaded = load(text, &variables).expect(text);
            assert_eq!(pairs(&loaded), expected, "{text} {variables:?}");
            let printed = format!("{} {loaded:?}", loaded.effective);
            assert!(!printed.contains("topmost") && !printed.contains("another-secret"));
            for (name, _) in variables {
                let origin = format!("# environment {name}");
                assert!(printed.contains(&origin), "{origin} in\n{printed}");
            }
        }
        // Of the same length, so that the content alone tells.
        let before = load(&by_file, &[]).expect("valid").values;
        write(
            &path,
            SECRET.replace("topmost", "TOPMOST").as_bytes(),
            0o600,
        );
        let changes = before.changes(&load(&by_file, &[]).expect("valid").values);
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes, [format!("keys: new secret of {ID}")]);
    }

    /// Goal: what cannot be a secret is refused, with the file and who named it, and without its content.
    #[test]
    fn files_that_cannot_be_a_secret_are_named() {
        let scratch = Scratch::new();
        let path = scratch.0.join("secret");
        let long = vec![b'x'; 5000];
        for (content, mode, expected) in [
            (&b"topmost-0123456789"[..], 0o644, "has mode 0644"),
            (b"topmost-0123456789", 0o604, "has mode 0604"),
            (b"", 0o600, "it is empty"),
            (b"\n", 0o600, "it is empty"),
            (b"topmost-0123456789\nb", 0o600, "more than one line"),
            (b"topmost\xff0123456789", 0o600, "valid UTF-8"),
            (&long, 0o600, "more than 4096 bytes"),
            (
                b"topmost",
                0o600,
                "keys.secret_file is 7 characters long (file uproar.toml)",
            ),
            (
                SAMPLE_SECRET.as_bytes(),
                0o600,
                "keys.secret_file is that of the sample",
            ),
        ] {
            write(&path, content, mode);
            let error = load(&entry(&path), &[]).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("keys.secret_file") && error.contains("uproar.toml"));
            assert!(!error.contains("topmost"), "{error}");
        }
        for (path, expected) in [
            (scratch.0.join("none"), "No such file"),
            (scratch.0.clone(), "it is no regular file"),
            (PathBuf::from("/dev/zero"), "it is no regular file"),
        ] {
            let variables = [
                ("UPROAR_KEYS__ID", ID),
                ("UPROAR_KEYS__SECRET_FILE", path.to_str().expect("text")),
            ];
            let error = load("", &variables).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("(environment UPROAR_KEYS__SECRET_FILE)"));
        }
    }

    /// Goal: a key has an id and one secret, and each mistake says where it is.
    #[test]
    fn a_key_has_an_id_and_one_secret() {
        let key = format!("[[keys]]\nid = \"{ID}\"\n");
        let both = format!("{key}secret = \"{SECRET}\"\nsecret_file = \"/s\"\n");
        let cases: [(&str, Variables, &str); 7] = [
            (
                &key,
                &[],
                "keys is AKIDEXAMPLE000000001 without secret (file",
            ),
            (&both, &[], "secret and secret_file (file uproar.toml)"),
            (
                "",
                &[("UPROAR_KEYS__ID", ID)],
                "without secret (environment UPROAR_KEYS__ID)",
            ),
            (
                "",
                &[("UPROAR_KEYS__SECRET", SECRET)],
                "keys.secret requires keys.id (environment UPROAR_KEYS__SECRET)",
            ),
            (
                "",
                &[
                    ("UPROAR_KEYS__ID", "short"),
                    ("UPROAR_KEYS__SECRET", SECRET),
                ],
                "keys.id is short (environment UPROAR_KEYS__ID)",
            ),
            (
                &both.replace("secret_file = \"/s\"", ""),
                &[("UPROAR_KEYS__ID", ID), ("UPROAR_KEYS__SECRET", SECRET)],
                "keys.id is AKIDEXAMPLE000000001 (environment UPROAR_KEYS__ID); it must be an id that no other",
            ),
            ("keys = 3", &[("UPROAR_KEYS__ID", ID)], "keys"),
        ];
        for (text, variables, expected) in cases {
            let error = load(text, variables).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("topmost"), "{error}");
        }
    }
}
