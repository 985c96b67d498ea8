//! Settings in two stages: the values of file, environment and flags, then validated settings.
//!
//! Precedence: flag, environment (`UPROAR_SECTION__KEY`), file, default. An unknown name is an error at start, not a
//! mystery at night.

mod access_keys;
mod acme;
mod admission;
mod check;
mod cluster;
mod defaults;
mod dev;
mod effective;
mod error;
mod file;
mod flags;
mod layers;
mod listen;
mod logging;
mod mode;
mod names;
mod raw;
mod reloading;
mod resolve;
mod review;
mod running;
mod schema;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod types;
mod values;
mod variables;

use std::path::{Path, PathBuf};

pub use acme::{AcmeAccount, AcmeSettings};
pub use dev::{DevFlags, DevSettings, ReadyRoom};
pub use effective::Effective;
pub use error::ConfigError;
pub use flags::Flags;
pub use mode::{
    DEV_ACCOUNT, DEV_CERTIFICATE, DEV_KEY_ID, DEV_REGION, DEV_ROOM, DEV_ROOM_ID, DEV_SECRET, Mode,
    dev_cluster_dir, dev_data_dir, dev_node_dir, dev_node_file,
};
pub use raw::{AcmeChallenge, IoChoice, Profile, TlsListeners};
pub use reloading::Reloading;
pub use running::{Reread, Running};
pub use schema::SAMPLE;
pub use settings::{DrainSettings, Local, Settings, TlsFiles};
pub use source::Source;
pub use values::Change;

pub use variables::TAKE_OVER;

use mode::dev_data_dir_of;
use values::Values;

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// Valid settings.
    pub settings: Settings,
    /// All values, to be printed.
    pub effective: Effective,
    values: Values,
}

impl Loaded {
    /// Settings, and what a server keeps to read the configuration again.
    pub fn running(self, mode: Mode, flags: Flags) -> (Settings, Running) {
        let read = (self.values, self.effective.sha256());
        (self.settings, Running::new(mode, flags, read))
    }
}

/// Reads the file, applies environment and flags on top, checks everything.
pub fn load(
    mode: Mode,
    flags: &Flags,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let text = flags.config.as_deref().map(file::read).transpose()?;
    settle(
        mode,
        flags.config.as_deref().zip(text.as_deref()),
        environment,
        flags,
    )
}

/// The settings of `serve` with a file of this text alone. For fuzz targets.
#[cfg(fuzzing)]
pub fn of_text(text: &str) -> Result<Loaded, ConfigError> {
    let file = Some((Path::new("uproar.toml"), text));
    settle(Mode::Serve, file, std::iter::empty(), &Flags::default())
}

/// Reads the settings of a command beside the server from a file, the environment, or neither. The configuration need not be complete: keys are
/// created before the first start.
pub fn local(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Local, ConfigError> {
    let text = file.map(file::read).transpose()?;
    let file = file.zip(text.as_deref());
    let (raw, sources) = layers::merge(Mode::Serve, file, environment, &Flags::default())?;
    resolve::local(raw, &sources, file.is_some())
}

/// Variables of this process. `std::env::vars` would panic at any that is not UTF-8; invalid parts become U+FFFD.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn settle(
    mode: Mode,
    file: Option<(&Path, &str)>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let mut taken_over = None;
    let environment = environment.inspect(|(name, value)| {
        if name == TAKE_OVER {
            taken_over = Some(PathBuf::from(value));
        }
    });
    let (mut raw, sources) = layers::merge(mode, file, environment, flags)?;
    if matches!(mode, Mode::Dev { .. }) {
        raw.keys.push(raw::Key {
            id: DEV_KEY_ID.to_owned(),
            secret: Some(DEV_SECRET.to_owned()),
            secret_file: None,
            is_of_variables: false,
        });
    }
    let own_data_dir = matches!(mode, Mode::Dev { .. })
        && sources.of("server.data_dir") == Source::Default
        && (raw.messaging.listen.port() == 0 || raw.control.listen.port() == 0);
    if own_data_dir {
        let made = || dev_data_dir_of(std::process::id());
        raw.server.data_dir = taken_over.clone().unwrap_or_else(made);
    }
    let effective = Effective::new(&raw, &sources);
    access_keys::read_secrets(&mut raw.keys, &sources)?;
    let values = Values::of(&raw, &sources);
    let mut settings = resolve::resolve(mode, raw, &sources)?;
    settings.data_is_own = own_data_dir;
    let by_flag = flags.take_over.then(|| settings.data_dir.clone());
    settings.take_over = taken_over.or(by_flag);
    Ok(Loaded {
        settings,
        effective,
        values,
    })
}

/// A shell command that creates a token of this server; room and user are to be appended.
pub fn token_command(data_dir: &Path) -> String {
    // When cargo runs it, it is not on the path.
    let program = std::env::current_exe().unwrap_or_else(|_| "uproar".into());
    let mut command = format!("{} token create", quoted(&program.to_string_lossy()));
    if data_dir != dev_data_dir() {
        command.push_str(" --data-dir ");
        command.push_str(&quoted(&data_dir.to_string_lossy()));
    }
    command
}

/// One word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The key file within a data directory.
pub fn keyring_path(data_dir: &Path) -> PathBuf {
    data_dir.join("token-keys")
}
