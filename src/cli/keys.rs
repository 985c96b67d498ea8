//! `uproar keys`: access keys of the API, beside those of the configuration file.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Subcommand, ValueEnum};

use super::cluster::shared_keys;
use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::clock;
use crate::control::access::KeyFileError;
use crate::control::access::grant::TOKEN_ATTRIBUTES;
use crate::control::access::keyfile::{KeyFile, KeyRecord};
use crate::control::operation::Operation;
use crate::durable;
use crate::logging;
use uproar_proto::base::clock::UnixTime;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key and print it, once; a running server takes it at once
    Create(Create),
    /// Show every key of the data directory, without secrets
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Forget a key; a running server refuses it within a tenth of a second
    Revoke {
        /// Access key id
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// What the key may do.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("rights").required(true).multiple(true)))]
pub(super) struct Create {
    /// For whom: admin every operation; mint CreateChatToken only; moderate events, deletions, kicks, bans, pins,
    /// and what rules hold; observe what the operator's page shows; operate all that can be done on it
    #[arg(long, value_enum, group = "rights")]
    role: Option<Role>,
    /// An operation it may call, beside those of its role; repeat for more
    #[arg(long = "operation", value_name = "OPERATION", group = "rights", value_parser = operations())]
    operations: Vec<String>,
    /// ARN pattern of the rooms (or other resources) it may touch, * and ? as in IAM; repeat for more [default: all]
    #[arg(long = "room", value_name = "PATTERN", value_parser = pattern)]
    rooms: Vec<String>,
    /// What people call it
    #[arg(long, default_value = "", value_parser = name)]
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Admin,
    Mint,
    Moderate,
    Observe,
    Operate,
}

/// What the operator's page shows: it changes nothing.
const OBSERVE: &[Operation] = &[
    Operation::GetStats,
    Operation::GetHistory,
    Operation::GetServer,
    Operation::FindRooms,
    Operation::FindUser,
    Operation::DescribeRoom,
    Operation::TailRoom,
    Operation::ListLoggingConfigurations,
];

/// What a moderator does.
const MODERATE: &[Operation] = &[
    Operation::SendEvent,
    Operation::DeleteMessage,
    Operation::DeleteMessages,
    Operation::DeleteUserMessages,
    Operation::ClearRoom,
    Operation::DisconnectUser,
    Operation::CreateBan,
    Operation::DeleteBan,
    Operation::ListBans,
    Operation::PinMessage,
    Operation::UnpinMessage,
    Operation::ListMessages,
    Operation::ListHeld,
    Operation::DecideHeld,
];

/// What the page does besides.
const OPERATE: &[Operation] = &[
    Operation::DrainServer,
    Operation::CancelDrain,
    Operation::ReloadServer,
    Operation::UpgradeServer,
    Operation::CreateRoom,
    Operation::UpdateRoom,
    Operation::DeleteRoom,
];

impl Role {
    fn operations(self) -> Vec<Operation> {
        match self {
            Self::Admin => Vec::new(),
            Self::Mint => vec![Operation::CreateChatToken],
            Self::Moderate => MODERATE.to_vec(),
            Self::Observe => OBSERVE.to_vec(),
            Self::Operate => [OBSERVE, OPERATE, MODERATE].concat(),
        }
    }
}

/// The names of the roles whose keys may call this.
#[cfg(test)]
pub(super) fn roles_with(operation: Operation) -> Vec<String> {
    let has = |role: &&Role| **role == Role::Admin || role.operations().contains(&operation);
    let names = Role::value_variants().iter().filter(has);
    let names = names.filter_map(ValueEnum::to_possible_value);
    names.map(|value| value.get_name().to_owned()).collect()
}

fn operations() -> clap::builder::PossibleValuesParser {
    Operation::ALL
        .iter()
        .map(|operation| operation.name())
        .chain([TOKEN_ATTRIBUTES])
        .collect::<Vec<_>>()
        .into()
}

fn name(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) || text.chars().count() > 64 {
        return Err("expected at most 64 characters on one line".to_owned());
    }
    Ok(text.to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    if text.starts_with("arn:aws:ivschat:") || text.starts_with('*') {
        Ok(text.to_owned())
    } else {
        Err("expected a pattern of ARNs, as in arn:aws:ivschat:*:*:room/TC6fLHr7ycLt".to_owned())
    }
}

pub(super) fn run(command: &KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create(create) => create.run(),
        KeysCommand::List { place } => list(&KeyFile::of(&place.existing()?.data_dir)),
        KeysCommand::Revoke { id, place } => {
            let placed = place.existing()?;
            let was_there = match shared_keys::of(&placed)? {
                Some(cluster) => shared_keys::revoke_access_key(cluster, id)?,
                None => KeyFile::of(&placed.data_dir).revoke(id).map_err(failure)?,
            };
            if was_there {
                Ok(())
            } else {
                Err(Failure::Run(format!(
                    "there is no key {id} in the data directory; those of the configuration are removed there"
                )))
            }
        }
    }
}

impl Create {
    fn run(&self) -> Result<(), Failure> {
        let mut operations = self.operations.clone();
        if let Some(role) = self.role {
            operations.extend(
                role.operations()
                    .iter()
                    .map(|operation| operation.name().to_owned()),
            );
            if role == Role::Admin {
                operations.clear();
            }
        }
        operations.sort_unstable();
        operations.dedup();
        let record = KeyRecord {
            id: String::new(),
            name: self.name.clone(),
            created: 0,
            operations,
            resources: self.rooms.clone(),
        };
        let now = clock::unix_now();
        let placed = self.place.read()?;
        make(&placed.data_dir)?;
        let file = KeyFile::of(&placed.data_dir);
        let key = match shared_keys::of(&placed)? {
            Some(cluster) => {
                let (key, plain) = file.make(record, now).map_err(failure)?;
                shared_keys::put_access_key(cluster, &key.id, &plain)?;
                key
            }
            None => file.create(record, now).map_err(failure)?,
        };
        print(&format!(
            "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n",
            key.id, &*key.secret
        ))
    }
}

/// Creates the data directory of a server that has not been started yet.
fn make(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.is_dir() {
        return Ok(());
    }
    let shown = data_dir.display();
    let owner = durable::private_directory_like_its_parent(data_dir).map_err(|error| {
        let user = rustix::process::geteuid().as_raw();
        let remedy = if error.kind() == std::io::ErrorKind::PermissionDenied {
            format!("; as root: install -d -m 700 -o {user} {shown}")
        } else {
            String::new()
        };
        Failure::Run(format!("{shown}: {error}{remedy}"))
    })?;
    logging::print(&format!(
        "uproar: made {shown}, which belongs to user {owner}; a server of another user needs it to be its own: \
         chown -R USER {shown}\n"
    ));
    Ok(())
}

fn list(file: &KeyFile) -> Result<(), Failure> {
    let mut text = format!(
        "{:<20}  {:<20}  {:<16}  {:<40}  {}\n",
        "ID", "CREATED", "NAME", "OPERATIONS", "RESOURCES"
    );
    let all = |list: &[String]| match list {
        [] => "all".to_owned(),
        list => list.join(","),
    };
    for key in file.list().map_err(failure)? {
        let created = UnixTime::from_secs(key.created).rfc3339();
        let (operations, resources) = (all(&key.operations), all(&key.resources));
        let name = if key.name.is_empty() { "-" } else { &key.name };
        let _infallible = writeln!(
            text,
            "{:<20}  {created:<20}  {name:<16}  {operations:<40}  {resources}",
            key.id
        );
    }
    print(&text)
}

fn failure(error: KeyFileError) -> Failure {
    Failure::Run(error.to_string())
}
