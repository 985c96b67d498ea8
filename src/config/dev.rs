//! Flags of `dev` alone: what a test needs to start a server of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::flags::Flags;
use super::mode::{DEV_ROOM, DEV_ROOM_ID, Mode};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::EMULATOR_FRAMES_MAX;

/// Longest name of a room, as of the API.
const NAME_CHARS_MAX: usize = 128;

/// What can be said to `dev` beside the flags that `serve` has, too.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DevFlags {
    /// Speak TLS with a throw-away certificate (DATA_DIR/dev-cert.pem)
    #[arg(long)]
    pub tls: bool,
    /// Both ports are the kernel's choice, and the data directory is new: for a server per test
    #[arg(long, conflicts_with_all = ["messaging_listen", "control_listen"])]
    pub free_ports: bool,
    /// Write a JSON file once the server is ready: addresses, key, rooms, process id; removed at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// One more ready room, with an id of twelve letters and digits; can be repeated; lobby=ID gives the lobby that id
    #[arg(long = "room", value_name = "NAME=ID", value_parser = ReadyRoom::parse)]
    pub rooms: Vec<ReadyRoom>,
    /// Ids of rooms, configurations and messages repeat: in a new data directory the same calls in the same order get the same ids
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Keep the last frames of all rooms, for GET /emulator/frames
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(EMULATOR_FRAMES_MAX)))]
    pub frames: Option<u32>,
    /// Listen on all addresses, for a container: whoever reaches the ports may do everything, since the key is public
    #[arg(long)]
    pub allow_remote_with_public_key: bool,
}

/// A room that is there when the server is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyRoom {
    /// Its name.
    pub name: String,
    /// The end of its ARN.
    pub id: RoomId,
}

/// What `dev` makes ready beside the server.
#[derive(Debug, Clone, Default)]
pub struct DevSettings {
    /// Rooms beside the lobby, or the lobby with another id.
    pub rooms: Vec<ReadyRoom>,
    /// Makes ids repeat.
    pub seed: Option<u64>,
    /// The file that says that the server is ready, and how it is reached.
    pub ready_file: Option<PathBuf>,
}

impl DevFlags {
    /// How the server runs.
    pub fn mode(&self) -> Mode {
        Mode::Dev {
            tls: self.tls,
            remote: self.allow_remote_with_public_key,
        }
    }

    /// Puts what these flags mean for listeners into the flags that decide them.
    pub fn apply(&self, flags: &mut Flags) {
        if self.free_ports {
            let ip = if self.allow_remote_with_public_key {
                Ipv4Addr::UNSPECIFIED
            } else {
                Ipv4Addr::LOCALHOST
            };
            let any = SocketAddr::from((IpAddr::V4(ip), 0));
            flags.messaging_listen = Some(any);
            flags.control_listen = Some(any);
        }
    }

    /// Refuses rooms of which two share a name or an id.
    ///
    /// # Errors
    ///
    /// A text that names both.
    pub fn check(&self) -> Result<(), String> {
        let rooms = with_lobby(&self.rooms);
        for (number, room) in rooms.iter().enumerate() {
            let mut before = rooms.iter().take(number);
            if let Some(other) = before.find(|other| other.name == room.name) {
                return Err(format!(
                    "--room {room} and --room {other}: one name with two ids; give each room a name of its own"
                ));
            }
            let mut before = rooms.iter().take(number);
            if let Some(other) = before.find(|other| other.id == room.id) {
                return Err(format!(
                    "--room {room} and --room {other}: one id for two names; give each room an id of its own (the lobby has \
                     {DEV_ROOM_ID}, unless --room {DEV_ROOM}=ID gives it another)"
                ));
            }
        }
        Ok(())
    }

    /// What is made ready.
    pub fn settings(&self) -> DevSettings {
        DevSettings {
            rooms: self.rooms.clone(),
            seed: self.seed,
            ready_file: self.ready_file.clone(),
        }
    }
}

impl DevSettings {
    /// Every room that is there at the start, the lobby first.
    pub fn ready_rooms(&self) -> Vec<ReadyRoom> {
        with_lobby(&self.rooms)
    }
}

/// The rooms with the lobby before them: with the id that one of them gives it, or its own.
fn with_lobby(rooms: &[ReadyRoom]) -> Vec<ReadyRoom> {
    let own = || ReadyRoom {
        name: DEV_ROOM.to_owned(),
        id: RoomId::parse(DEV_ROOM_ID).expect("twelve letters and digits"),
    };
    let mut rooms = rooms.to_vec();
    let given = rooms.iter().position(|room| room.name == DEV_ROOM);
    let lobby = given.map_or_else(own, |given| rooms.remove(given));
    rooms.insert(0, lobby);
    rooms
}

impl std::fmt::Display for ReadyRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.id)
    }
}

impl ReadyRoom {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, id) = text
            .split_once('=')
            .ok_or("it must be a name, = and an id, as in hall=hall00000000")?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
            return Err(format!(
                "the name must be 1 to {NAME_CHARS_MAX} letters, digits, - and _"
            ));
        }
        let id = RoomId::parse(id).ok_or_else(|| {
            let len = id.chars().count();
            format!("the id must be twelve letters and digits, as in hall00000000; {id} has {len} characters")
        })?;
        let name = name.to_owned();
        Ok(Self { name, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rooms that would share a name or an id are refused with both; the lobby may be given an id, once.
    #[test]
    fn rooms_do_not_share_names_or_ids() {
        let check = |rooms: &[&str]| {
            let rooms = rooms.iter().map(|room| ReadyRoom::parse(room));
            let rooms = rooms.collect::<Result<_, _>>().expect("valid");
            let flags = DevFlags {
                rooms,
                ..DevFlags::default()
            };
            flags.check().map(|()| flags.settings().ready_rooms())
        };
        for (rooms, named) in [
            (
                ["a=aaaaaaaaaaaa", "b=aaaaaaaaaaaa"],
                ["--room a=aaaaaaaaaaaa", "--room b=aaaaaaaaaaaa"],
            ),
            (
                ["a=aaaaaaaaaaaa", "a=bbbbbbbbbbbb"],
                ["--room a=aaaaaaaaaaaa", "--room a=bbbbbbbbbbbb"],
            ),
            (
                ["a=aaaaaaaaaaaa", "b=lobby0000000"],
                ["--room b=lobby0000000", "--room lobby=lobby0000000"],
            ),
            (
                ["lobby=aaaaaaaaaaaa", "lobby=bbbbbbbbbbbb"],
                ["--room lobby=aaaaaaaaaaaa", "--room lobby=bbbbbbbbbbbb"],
            ),
        ] {
            let refused = check(&rooms).expect_err("shared");
            assert!(
                named.iter().all(|named| refused.contains(named)),
                "{refused}"
            );
        }
        let names = |rooms: Result<Vec<ReadyRoom>, String>| -> Vec<String> {
            rooms
                .expect("valid")
                .iter()
                .map(ReadyRoom::to_string)
                .collect()
        };
        assert_eq!(
            names(check(&["a=aaaaaaaaaaaa"])),
            ["lobby=lobby0000000", "a=aaaaaaaaaaaa"]
        );
        assert_eq!(
            names(check(&["b=lobby0000000", "lobby=aaaaaaaaaaaa"])),
            ["lobby=aaaaaaaaaaaa", "b=lobby0000000"]
        );
    }

    /// Goal: a room is a name and an id; the error says which part is wrong, and shows one that is right.
    #[test]
    fn rooms_are_a_name_and_an_id() {
        let room = ReadyRoom::parse("hall=hall00000000").expect("valid");
        assert_eq!(
            (&*room.name, &*room.id.to_string()),
            ("hall", "hall00000000")
        );
        for (text, part) in [
            ("hall", "a name, = and an id"),
            ("=hall00000000", "the name"),
            ("a b=hall00000000", "the name"),
            ("hall=hall", "twelve letters and digits"),
            ("hall=hall0000000!", "twelve letters and digits"),
        ] {
            let error = ReadyRoom::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
