//! The end of a start: viewers may come, and who waits for it is told.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::drain::Drains;
use super::ready_file::{ReadyFile, reachable};
use super::upgrade::Follower;
use super::vitals::{Opened, unmap_program};
use super::{ChosenIo, Ready, StartError, demo};
use crate::config::{DEV_ROOM_ID, ReadyRoom};
use crate::control::Control;
use crate::control::review::Reviews;
use crate::shard::estate::Unfinished;
use crate::shard::gateway::Gateway;

/// What lets viewers in.
pub(super) struct Doors {
    pub(super) control: Rc<Control>,
    pub(super) reviews: Rc<Reviews>,
    pub(super) drains: Rc<Drains>,
    pub(super) pages: Option<Arc<demo::Demo>>,
    pub(super) gateway: Gateway,
    pub(super) addresses: Addresses,
    pub(super) opened: oneshot::Sender<Opened>,
    /// Rooms of `uproar dev`, the lobby first.
    pub(super) ready_rooms: Vec<ReadyRoom>,
    pub(super) ready_file: Option<ReadyFile>,
}

impl Doors {
    /// Opens them. `taken_over` is what the process before this one has handed over.
    pub(super) async fn open(
        self,
        taken_over: Option<Follower>,
        on_ready: Option<impl FnOnce(&Ready)>,
    ) -> Result<(), StartError> {
        let addresses = self.addresses;
        let rooms = match &self.pages {
            Some(pages) => {
                let plane = (&self.control, &self.gateway);
                ready_rooms(plane, pages, &self.ready_rooms, &addresses).await?
            }
            None => Vec::new(),
        };
        // A shard that does not answer is named by `/livez`; it opens when it takes its turn.
        let _late = self.gateway.turn_doors(true, Duration::ZERO).await;
        self.drains.opened();
        unmap_program().await;
        addresses.announce(rooms, self.ready_file.as_ref(), on_ready)?;
        let is_handed_over = taken_over.is_some();
        // Whoever waits for it lives as long as the server.
        let _told = self.opened.send(Opened { is_handed_over });
        if let Some(taken_over) = taken_over {
            let Unfinished { acts, reviews } = taken_over.unfinished();
            self.control.take_up(acts);
            self.reviews.take_up(reviews);
            tokio::task::spawn_local(taken_over.serving());
        }
        Ok(())
    }
}

/// Where the server listens.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) messaging: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) messaging_tls: bool,
    pub(super) control_tls: bool,
    pub(super) io: ChosenIo,
}

impl Addresses {
    /// Tells the caller of the start both addresses, writes them into `file`, and logs them.
    fn announce(
        self,
        rooms: Vec<(String, String)>,
        file: Option<&ReadyFile>,
        on_ready: Option<impl FnOnce(&Ready)>,
    ) -> Result<(), StartError> {
        let Self {
            messaging,
            control,
            messaging_tls,
            control_tls,
            io,
        } = self;
        let ready = Ready {
            messaging,
            control,
            messaging_tls,
            control_tls,
            rooms,
            io,
        };
        if let Some(on_ready) = on_ready {
            on_ready(&ready);
        }
        if let Some(file) = file {
            file.write(&ready)?;
        }
        let io = ready.io.kind.name();
        tracing::info!(%messaging, %control, tls = messaging_tls, control_tls, io, "ready");
        Ok(())
    }
}

/// Makes the rooms of `uproar dev`, and opens its page; returns their names and ARNs, the lobby first.
async fn ready_rooms(
    (control, gateway): (&Rc<Control>, &Gateway),
    pages: &demo::Demo,
    ready: &[ReadyRoom],
    addresses: &Addresses,
) -> Result<Vec<(String, String)>, StartError> {
    let failed = |fault| StartError::Room(format!("{fault:?}"));
    let mut rooms = Vec::new();
    for (number, ReadyRoom { name, id }) in ready.iter().enumerate() {
        // A kept data directory may have a lobby of another id, which stays the lobby unless it is given one.
        let arn = if number == 0 && id.as_str() == DEV_ROOM_ID {
            control.ready_room(*id, name).await
        } else {
            control.room_with_id(*id, name).await
        };
        rooms.push((name.clone(), arn.map_err(failed)?));
    }
    if let Some((_, lobby)) = rooms.first() {
        let messaging = (addresses.messaging, addresses.messaging_tls);
        let listeners = (messaging, reachable(addresses.control));
        pages.open(lobby, listeners, (control, gateway))?;
    }
    Ok(rooms)
}
