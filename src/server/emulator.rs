//! What `uproar dev` gives its tests, made of what it was started with.

use std::path::PathBuf;
use std::sync::Arc;

use super::keys;
use crate::clock;
use crate::config::{DEV_ROOM, DEV_ROOM_ID, DevSettings};
use crate::control::Emulator;
use crate::shard::handshake::LiveKeyring;
use uproar_proto::base::id::RoomId;

/// The emulator of a server on `data_dir`.
pub(super) fn emulator(
    settings: &DevSettings,
    data_dir: PathBuf,
    keyring: LiveKeyring,
) -> Emulator {
    let lobby = RoomId::parse(DEV_ROOM_ID).expect("twelve letters and digits");
    let mut ready = vec![(lobby, DEV_ROOM.to_owned())];
    let further = settings.rooms.iter();
    ready.extend(further.map(|room| (room.id, room.name.clone())));
    let rekey = move || {
        let ring = keys::make(&data_dir, clock::unix_now()).map_err(|error| error.to_string())?;
        keyring.store(Arc::new(ring));
        Ok(())
    };
    Emulator::new(ready, Box::new(rekey))
}
