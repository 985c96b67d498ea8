//! Orders about the whole server that come by the API, on their way to whoever carries them out.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// An order as a message of the admin socket, and where its answer goes.
#[derive(Debug)]
pub struct ServerOrder {
    /// As docs/admin-socket.md says.
    pub order: Value,
    /// Gets the answer; closed once the caller has gone.
    pub answer: oneshot::Sender<Result<Value, OrderFault>>,
}

/// Where the orders go.
pub type ServerOrders = mpsc::Sender<ServerOrder>;

/// Why an order was not done; the texts are for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFault {
    /// Another order is being done.
    Busy(String),
    /// It makes no sense now, or its values are refused.
    Refused(String),
    /// It was begun and has failed.
    Failed(String),
}

impl OrderFault {
    /// The exception's name and HTTP status.
    pub(super) fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Busy(_) => ("ConflictException", 409),
            Self::Refused(_) => ("ValidationException", 400),
            Self::Failed(_) => ("InternalServerException", 500),
        }
    }

    /// The message.
    pub(super) fn message(&self) -> &str {
        let (Self::Busy(message) | Self::Refused(message) | Self::Failed(message)) = self;
        message
    }
}
