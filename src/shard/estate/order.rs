//! What a hand-over asks of a shard's driver.

use tokio::sync::oneshot;

use super::carried::Carried;
use super::viewer::Inherited;
use crate::net::pass::Connection;
use crate::shard::carry::CarryFault;

/// A part of a hand-over that takes more than the core has.
#[derive(Debug)]
pub enum Order<S> {
    /// Send the viewers of the frozen core through this connection.
    Export(Connection, oneshot::Sender<Result<Carried, CarryFault>>),
    /// Give these viewers their shares of the limit on addresses, then pass them to `Core::inherit`.
    Inherit(Vec<Inherited<S>>, oneshot::Sender<Carried>),
}
