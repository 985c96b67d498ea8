//! `uproar token`: tokens sealed offline with the server's key file.

use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use clap::Subcommand;

use super::cluster::shared_keys;
use super::failure::Failure;
use super::output::{printable, show};
use super::place::{Place, Placed};
use crate::clock;
use crate::control::record::{BanRecord, Record, RoomRecord};
use crate::control::store::{backup, path_in};
use crate::server::{StartError, load_keyring, nonce, rotate_keyring};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::{BanId, RoomId};
use uproar_proto::base::limits::{
    ATTRIBUTES_BYTES_MAX, SESSION_MINUTES_DEFAULT, SESSION_MINUTES_MAX, USER_ID_CHARS_MAX,
};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::token::{Capability, Keyring, TokenRequest, mint};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print one token a line
    Create(Create),
    /// Say what a token says, whether it is good, its room exists and its user is not banned; exit 1 if not. Whether it was used, the server alone knows
    Check(Check),
    /// Seal tokens with a new key from now on; tokens already made stay good
    RotateKey(RotateKey),
}

/// Where the key file is.
#[derive(Debug, clap::Args)]
pub(super) struct RotateKey {
    #[command(flatten)]
    place: Place,
}

/// The token.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The token; -: the first line of standard input, which no list of processes shows
    token: String,
    #[command(flatten)]
    place: Place,
}

/// From the moment the new key opens tokens until it seals them: a running server checks the file every second.
const ROTATION_LEAD: Duration = Duration::from_secs(3);

/// What the tokens say.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Room ARN, as CreateRoom and ListRooms give it
    #[arg(long)]
    room: String,
    /// User id; with --count N > 1 the users are U-0, U-1, …
    #[arg(long)]
    user: String,
    /// What the user may do besides receiving; repeat for more
    #[arg(long = "capability", value_name = "CAPABILITY", value_parser = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"])]
    capabilities: Vec<String>,
    /// Shown as Sender.Attributes; repeat for more
    #[arg(long = "attribute", value_name = "KEY=VALUE")]
    attributes: Vec<String>,
    /// How many tokens
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Length of the session, from now
    #[arg(long, default_value_t = SESSION_MINUTES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSION_MINUTES_MAX)))]
    session_minutes: u32,
    /// Length of the session in seconds, for tests of its end
    #[arg(long, hide = true, conflicts_with = "session_minutes")]
    session_seconds: Option<u64>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(command: &TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(create) => print(create),
        TokenCommand::Check(check) => check.run(),
        TokenCommand::RotateKey(rotate) => {
            let placed = rotate.place.existing()?;
            if let Some(cluster) = shared_keys::of(&placed)? {
                shared_keys::rotate(cluster)?;
            } else {
                keyring(&placed.data_dir)?;
                rotate_keyring(&placed.data_dir, clock::unix_now(), ROTATION_LEAD)?;
            }
            show("a new key seals tokens from now on; the old one opens them for 24 h more\n");
            Ok(())
        }
    }
}

fn print(create: &Create) -> Result<(), Failure> {
    let placed = create.place.existing()?;
    let keyring = keyring(&placed.data_dir)?;
    let mut request = create.request(placed.token_life)?;
    let now = clock::unix_now();
    let mut out = BufWriter::new(io::stdout().lock());
    for index in 0..create.count {
        if create.count > 1 {
            request.user_id = format!("{}-{index}", create.user);
        }
        let nonce = nonce().map_err(|error| Failure::Run(format!("no random bytes: {error}")))?;
        let minted = mint(&keyring, request.clone(), now, nonce);
        match writeln!(out, "{}", minted.token) {
            Ok(()) => {}
            // A reader that stops early (`| head`) is not a failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::Run(error.to_string())),
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(error.to_string()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let placed = self.place.existing()?;
        let keyring = keyring(&placed.data_dir)?;
        let token = match &*self.token {
            "-" => {
                let mut line = String::new();
                let read = io::stdin().lock().read_line(&mut line);
                read.map_err(|error| Failure::Run(format!("standard input: {error}")))?;
                line
            }
            given => given.to_owned(),
        };
        let token = token.trim();
        let mut scratch = Vec::new();
        // What one says that has expired is known, too.
        let opened = keyring.open(token, &mut scratch, UnixTime::from_secs(0));
        let opened = opened.map_err(|error| Failure::Run(error.to_string()))?;
        let names = Capability::ALL.into_iter();
        let names = names.filter(|one| opened.capabilities().contains(*one));
        let names: Vec<_> = names.map(Capability::name).collect();
        let attributes = opened.attributes();
        let attributes: Vec<_> = attributes
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let or_none = |list: Vec<String>| match &*list {
            [] => "none".to_owned(),
            list => list.join(", "),
        };
        show(&format!(
            "room         {}\nuser         {}\nmay          {}\nattributes   {}\nconnects to  {}\nsession to   {}\n",
            placed.account.arn(opened.room()),
            printable(opened.user_id()),
            or_none(names.into_iter().map(str::to_owned).collect()),
            printable(&or_none(attributes)),
            opened.expires().rfc3339(),
            opened.session_end().rfc3339(),
        ));
        if let Err(error) = keyring.open(token, &mut Vec::new(), clock::unix_now()) {
            return Err(Failure::Run(error.to_string()));
        }
        admits(&placed, opened.room(), opened.user_id())
    }
}

/// Whether a server lets the user of a genuine token in, as far as its database tells: it is read as it is, and nothing is asked
/// of the server. Says what stays unknown.
fn admits(placed: &Placed, room: RoomId, user: &str) -> Result<(), Failure> {
    let bans = [BanId::of(Some(room), user), BanId::of(None, user)];
    let ban_rows = bans.map(|ban| (BanRecord::TABLE, ban.to_string()));
    let room_row = (RoomRecord::TABLE, room.to_string());
    let database = path_in(&placed.data_dir);
    let read = |wanted: &[_]| backup::read_some(&database, wanted);
    let found = read(&[room_row]).and_then(|rooms| Ok((rooms, read(&ban_rows)?)));
    let (rooms, bans) = match found {
        Ok(found) => found,
        Err(error) => {
            show(&format!(
                "not known    whether the room exists, the user is banned, and the token was used: {error}\n"
            ));
            return Ok(());
        }
    };
    show("not known    whether the token was used: the server's log says so\n");
    if rooms.is_empty() {
        let text = format!(
            "the room {room} does not exist here: it was deleted, or the token is for another server"
        );
        return Err(Failure::Run(text));
    }
    let now_ms = clock::unix_now().millis();
    let is_barred = |row: &Vec<u8>| {
        let ban = serde_json::from_slice::<BanRecord>(row).ok();
        ban.is_some_and(|ban| {
            ban.mode() == BanMode::Ban && ban.until_ms.is_none_or(|until_ms| until_ms > now_ms)
        })
    };
    if bans.iter().any(is_barred) {
        let text = "the user is banned; a server with [extensions] refuses the token until the ban ends or is lifted";
        return Err(Failure::Run(text.to_owned()));
    }
    Ok(())
}

/// The keys of a data directory.
fn keyring(data_dir: &Path) -> Result<Keyring, Failure> {
    load_keyring(data_dir).map_err(|error| {
        if let StartError::Directory { path, cause } = &error
            && cause.kind() == io::ErrorKind::NotFound
        {
            return Failure::Run(format!(
                "{} is not there: no server has started in this data directory yet, and the first start makes it; or --data-dir \
                 names another directory than the server's",
                path.display()
            ));
        }
        Failure::Start(error)
    })
}

impl Create {
    fn request(&self, life: Duration) -> Result<TokenRequest, Failure> {
        let usage = |text: String| Failure::Usage(text);
        let id = self
            .room
            .rsplit_once(":room/")
            .and_then(|(_, id)| RoomId::parse(id));
        let room = id.ok_or_else(|| {
            usage(format!(
                "--room {}: expected a room ARN, arn:aws:ivschat:…:room/<id>",
                self.room
            ))
        })?;
        let widest = self.user.chars().count() + if self.count > 1 { 20 } else { 0 };
        if self.user.is_empty() || widest > USER_ID_CHARS_MAX {
            return Err(usage(format!(
                "--user: 1 to {USER_ID_CHARS_MAX} characters, number included"
            )));
        }
        let mut attributes = Vec::new();
        for pair in &self.attributes {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| usage(format!("--attribute {pair}: expected KEY=VALUE")))?;
            attributes.push((key.to_owned(), value.to_owned()));
        }
        let bytes: usize = attributes
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes > ATTRIBUTES_BYTES_MAX {
            return Err(usage(format!(
                "--attribute: {bytes} bytes of {ATTRIBUTES_BYTES_MAX}"
            )));
        }
        let seconds = self
            .session_seconds
            .unwrap_or(60 * u64::from(self.session_minutes));
        let names = self
            .capabilities
            .iter()
            .filter_map(|name| Capability::parse(name));
        Ok(TokenRequest {
            room,
            user_id: self.user.clone(),
            attributes,
            capabilities: names.collect(),
            session: Duration::from_secs(seconds),
            life,
        })
    }
}
