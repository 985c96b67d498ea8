//! The control plane: the AWS REST-JSON API over HTTP, storage, and requests to the shards.

pub mod access;
mod admission;
mod advance;
pub mod archive;
pub mod arn;
pub mod aws_client;
mod bans;
mod copies;
mod emulator;
mod ends;
pub mod fault;
mod http;
pub(crate) mod http_client;
pub mod import;
mod input;
mod keep_ends;
mod members;
pub mod op;
pub mod operation;
mod operator;
mod pause;
mod phase;
mod pins;
mod put_room;
mod recall;
pub mod record;
pub mod record_cache;
pub mod registry;
mod reset;
pub mod review;
pub mod rules;
mod server_order;
mod state;
pub mod store;
pub mod throttle;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use uproar_proto::base::id::RoomId;

pub use admission::ControlAdmissionSettings;
pub use copies::KeyPlaces;
pub use emulator::{Emulator, Rekey};
pub use operator::{CallFault, NoRoom};
pub use pause::{PauseError, Paused};
pub use server_order::{OrderFault, ServerOrder, ServerOrders};
pub use state::{Control, ControlChange, ControlSettings, Metrics};

use operation::Operation;
use record::Record;

impl Control {
    /// Serves until `stop` is ready, except while [paused](Control::pause). Call within a `LocalSet`.
    pub async fn serve(
        self: Rc<Self>,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        http::listen::serve(self, listener, tls, stop).await
    }

    /// Calls per second of `CreateChatToken`; zero: not limited.
    pub fn token_rate(&self) -> u32 {
        self.throttle.rate(Operation::CreateChatToken)
    }

    /// Grants one chat token beyond the rate for each of `viewers` that were cut by us and will come back.
    pub fn credit_tokens(&self, viewers: u64) {
        let now = self.clock.now().tick;
        let operation = Operation::CreateChatToken;
        self.throttle.credit(operation, viewers, now);
    }

    /// How many of those tokens nobody has asked for yet.
    pub fn token_credit_left(&self) -> u64 {
        let now = self.clock.now().tick;
        self.throttle.credit_left(Operation::CreateChatToken, now)
    }

    /// The ARN of the room with this id, else of the oldest named `name`; creates it with both if
    /// neither exists.
    pub async fn ready_room(&self, id: RoomId, name: &str) -> Result<String, fault::Fault> {
        let rooms = &self.registry.rooms;
        if let Some(room) = rooms.get(id).or_else(|| rooms.named(name)) {
            return Ok(self.settings.account.arn(room.id()));
        }
        self.room_with_id(id, name).await
    }

    /// The ARN of the room with this id; creates it with this name if there is none.
    pub async fn room_with_id(&self, id: RoomId, name: &str) -> Result<String, fault::Fault> {
        if self.registry.rooms.contains(id) {
            return Ok(self.settings.account.arn(id));
        }
        match op::rooms::create_ready(self, id, name).await {
            // Another node has made it at the same moment.
            Err(fault::Fault::Conflict { .. }) => Ok(self.settings.account.arn(id)),
            made => made,
        }
    }
}
