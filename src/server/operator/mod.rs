//! What an operator sees and does from a terminal: figures of the server and its rooms, operations of the API, and
//! membership of a room, all by orders of the admin socket.

mod calls;
mod history;
mod join;
mod rooms;
mod server;
mod stats;

pub(super) use calls::carry;
pub(super) use history::History;
pub(super) use server::Facts;

use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::admin::{CallOrder, Order, Refusal, RefusalCode, Reply};
use super::cluster::ClusterOrders;
use super::drain::Drains;
use crate::control::operation::{Family, Operation};
use crate::control::{CallFault, Control};
use crate::shard::command::Refused;
use crate::shard::gateway::Gateway;
use crate::shard::metrics::ShardMetrics;

/// What these orders are about.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) control: Rc<Control>,
    pub(super) gateway: Gateway,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
    pub(super) drains: Rc<Drains>,
    pub(super) cluster: ClusterOrders,
    pub(super) facts: Rc<Facts>,
}

impl Operator {
    /// Does one of its orders, beside whatever else is being done.
    ///
    /// # Panics
    ///
    /// If the order is another one.
    pub(super) fn take(&self, order: Order, reply: Reply) {
        let own = self.clone();
        match order {
            Order::Stats {} => beside(reply, async move { Ok(own.stats()) }),
            Order::History { after } => beside(reply, async move { own.history(after) }),
            Order::Server {} => beside(reply, async move { own.server().await }),
            Order::Rooms(wanted) => beside(reply, async move { own.rooms(wanted).await }),
            Order::Room(wanted) => beside(reply, async move { own.room(wanted).await }),
            Order::User { user } => beside(reply, async move { own.user(&user).await }),
            Order::Call(call) => beside(reply, async move { own.call(call).await }),
            Order::Join(wish) => drop(tokio::task::spawn_local(own.join(wish, reply))),
            other @ (Order::Health {}
            | Order::Drain(_)
            | Order::CancelDrain {}
            | Order::Reload {}
            | Order::Upgrade { .. }
            | Order::ClusterStatus { .. }
            | Order::ClusterMove { .. }
            | Order::ClusterBalance {}
            | Order::TakeOver {}) => unreachable!("{} is done elsewhere", other.name()),
        }
    }

    /// Does an operation of the API.
    async fn call(self, CallOrder { operation, input }: CallOrder) -> Result<Value, Refusal> {
        let Some(operation) = Operation::parse(&operation).filter(|own| is_offered(*own)) else {
            let offered = Operation::ALL.iter().filter(|own| is_offered(**own));
            let names: Vec<_> = offered.map(|own| own.name()).collect();
            let message = format!(
                "{operation} is not offered here; there are {}",
                names.join(", ")
            );
            return Err(Refusal::new(RefusalCode::Refused, message));
        };
        let answer = self.control.operate(operation, &Value::Object(input)).await;
        let (status, body) = answer.map_err(|fault| refusal_of(&fault))?;
        Ok(json!({"status": status, "body": body}))
    }
}

/// Orders do what the operator's own operations do, which are orders themselves.
fn is_offered(operation: Operation) -> bool {
    operation.is_by_body() && operation.family() != Family::Operator
}

fn beside<T: Serialize + Debug>(
    reply: Reply,
    work: impl Future<Output = Result<T, Refusal>> + 'static,
) {
    tokio::task::spawn_local(async move { reply.answer(work.await) });
}

fn refused(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Refused, why)
}

fn refusal_of(fault: &CallFault) -> Refusal {
    match fault {
        CallFault::Paused => {
            let message = "the server is being handed over to a new process; repeat the order when it is over";
            Refusal::new(RefusalCode::Busy, message)
        }
        CallFault::Refused(fault) => {
            let (kind, _) = fault.kind();
            refused(format!("{kind}: {}", fault.reason()))
        }
    }
}

/// A shard has not answered.
fn silent(refused: Refused) -> Refusal {
    let message = format!("{refused}: see /livez and the log");
    Refusal::new(RefusalCode::Failed, message)
}
