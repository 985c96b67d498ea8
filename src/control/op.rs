//! The operations of the API, one table.

pub mod messages;
pub mod rooms;
pub mod tokens;

use hyper::Method;
use serde_json::Value;

use super::Control;
use super::fault::Fault;
use super::input::Input;
use crate::base::rate::Rate;

/// An operation, named as the API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the API's own names")]
pub enum Operation {
    CreateChatToken,
    CreateRoom,
    DeleteMessage,
    DeleteRoom,
    DisconnectUser,
    GetRoom,
    ListRooms,
    SendEvent,
    UpdateRoom,
}

/// A successful answer: status and body.
pub(super) type Answer = (u16, Option<Value>);

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::CreateChatToken,
        Self::CreateRoom,
        Self::DeleteMessage,
        Self::DeleteRoom,
        Self::DisconnectUser,
        Self::GetRoom,
        Self::ListRooms,
        Self::SendEvent,
        Self::UpdateRoom,
    ];

    /// By method and path: all of them are `POST /<name>`.
    pub(super) fn route(method: &Method, path: &str) -> Result<Self, Fault> {
        let name = path.strip_prefix('/').unwrap_or_default();
        let operation = Self::ALL
            .into_iter()
            .find(|operation| operation.name() == name);
        match operation {
            Some(operation) if method == Method::POST => Ok(operation),
            Some(_) => Err(Fault::Method),
            None => Err(Fault::UnknownOperation),
        }
    }

    /// The API's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateChatToken => "CreateChatToken",
            Self::CreateRoom => "CreateRoom",
            Self::DeleteMessage => "DeleteMessage",
            Self::DeleteRoom => "DeleteRoom",
            Self::DisconnectUser => "DisconnectUser",
            Self::GetRoom => "GetRoom",
            Self::ListRooms => "ListRooms",
            Self::SendEvent => "SendEvent",
            Self::UpdateRoom => "UpdateRoom",
        }
    }

    /// Calls per second of one account at the managed service.
    pub const fn aws_rate(self) -> u32 {
        match self {
            Self::CreateChatToken => 200,
            Self::SendEvent | Self::DeleteMessage | Self::DisconnectUser => 100,
            Self::CreateRoom
            | Self::GetRoom
            | Self::UpdateRoom
            | Self::DeleteRoom
            | Self::ListRooms => 5,
        }
    }
}

/// Does one authenticated call.
pub(super) async fn call(
    control: &Control,
    operation: Operation,
    body: &[u8],
) -> Result<Answer, Fault> {
    throttle(control, operation)?;
    let input = Input::parse(body)?;
    match operation {
        Operation::CreateChatToken => tokens::create_chat_token(control, input),
        Operation::CreateRoom => rooms::create(control, input).await,
        Operation::GetRoom => rooms::get(control, input),
        Operation::UpdateRoom => rooms::update(control, input).await,
        Operation::DeleteRoom => rooms::delete(control, input).await,
        Operation::ListRooms => rooms::list(control, input),
        Operation::SendEvent => messages::send_event(control, input).await,
        Operation::DeleteMessage => messages::delete_message(control, input).await,
        Operation::DisconnectUser => messages::disconnect_user(control, input).await,
    }
}

fn throttle(control: &Control, operation: Operation) -> Result<(), Fault> {
    let Some(rates) = control.settings.rates else {
        return Ok(());
    };
    let limit = rates(operation);
    let now = control.clock.now().tick;
    let mut budgets = control.budgets.borrow_mut();
    let budget = budgets.entry(operation).or_default();
    if budget.take(Rate::per_second(limit), now) {
        Ok(())
    } else {
        Err(Fault::Throttled { limit })
    }
}
