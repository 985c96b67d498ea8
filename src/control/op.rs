//! Calls of the API: authorization, rate limit, and the handler of each operation.

mod audit;
pub(super) mod authorize;
mod bans;
mod crowds;
mod erase;
#[cfg(fuzzing)]
pub mod fuzzing;
mod held;
mod history;
mod listing;
mod logging;
mod messages;
mod pins;
pub(super) mod purge;
pub(super) mod request;
mod resource;
pub mod rooms;
mod rules;
mod server;
mod speech;
mod tags;
pub(super) mod tail;
mod tallies;
pub(super) mod tokens;
mod user_event;

pub(super) use resource::random_id;
use std::rc::Rc;

use super::fault::Fault;
use super::operation::Operation;
use super::state::Control;
use crate::logging::{Kind, local};
use authorize::Authorized;
use request::{Answer, Request};
use uproar_proto::base::limits::{CALL_ANSWER_MAX, CALLS_OPEN_MAX};

/// Executes one authenticated call. Its changes are atomic, whether or not its caller stays.
pub(super) async fn call(control: &Rc<Control>, request: Request) -> Result<Answer, Fault> {
    let operation = request.operation;
    let call = authorize::authorize(request)?;
    control.charge(operation).await?;
    if !operation.waits() {
        return dispatch(control, operation, call).await;
    }
    // A caller that leaves drops this future, not the task: memory and shards follow the disk.
    let open = Rc::clone(&control.open_calls);
    if Rc::strong_count(&open) > CALLS_OPEN_MAX {
        return Err(Fault::Busy);
    }
    let control = Rc::clone(control);
    let task = tokio::task::spawn_local(async move {
        let answer = dispatch(&control, operation, call).await;
        drop(open);
        answer
    });
    let answered = tokio::time::timeout(CALL_ANSWER_MAX, task).await;
    let Ok(answered) = answered else {
        return Err(Fault::Late);
    };
    answered.unwrap_or_else(|error| {
        if let Some(suppressed) = local::admit(Kind::ApiFailed) {
            tracing::error!(%error, suppressed, "an operation ended without an answer");
        }
        Err(Fault::Internal)
    })
}

/// Begins to listen to a room, on an authenticated call.
pub(super) async fn tail(control: &Rc<Control>, request: Request) -> Result<tail::Tail, Fault> {
    let operation = request.operation;
    let call = authorize::authorize(request)?;
    control.charge(operation).await?;
    tail::open(control, call).await
}

/// Carries the call out, and notes it if it is moderation, before it is answered.
async fn dispatch(
    control: &Rc<Control>,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    let draft = audit::Draft::of(control, operation, &call);
    let answer = carry_out(control, operation, call).await;
    if let Some(draft) = draft {
        draft.record(control, &answer).await;
    }
    answer
}

async fn carry_out(
    control: &Rc<Control>,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    use Operation as O;
    match operation {
        O::CreateChatToken => tokens::create_chat_token(control, call).await,
        O::CreateRoom => rooms::create(control, call).await,
        O::GetRoom => rooms::get(control, call).await,
        O::UpdateRoom => rooms::update(control, call).await,
        O::DeleteRoom => rooms::delete(control, call).await,
        O::ListRooms => rooms::list(control, call).await,
        O::SendEvent => messages::send_event(control, call).await,
        O::DeleteMessage => messages::delete_message(control, call).await,
        O::DisconnectUser => messages::disconnect_user(control, call).await,
        O::CreateLoggingConfiguration => logging::create(control, call).await,
        O::GetLoggingConfiguration => logging::get(control, call).await,
        O::UpdateLoggingConfiguration => logging::update(control, call).await,
        O::DeleteLoggingConfiguration => logging::delete(control, call).await,
        O::ListLoggingConfigurations => logging::list(control, call).await,
        O::ListTagsForResource => tags::list(control, call).await,
        O::TagResource => tags::tag(control, call).await,
        O::UntagResource => tags::untag(control, call).await,
        // Its answer has no end: see `tail`.
        O::TailRoom => Err(Fault::UnknownOperation),
        O::GetStats => server::plain(control, call, "stats").await,
        O::GetHistory => server::get_history(control, call).await,
        O::GetServer => server::plain(control, call, "server").await,
        O::FindRooms => server::find_rooms(control, call).await,
        O::FindUser => server::find_user(control, call).await,
        O::DescribeRoom => server::describe_room(control, call).await,
        O::DrainServer => server::drain(control, call).await,
        O::CancelDrain => server::plain(control, call, "cancel_drain").await,
        O::ReloadServer => server::plain(control, call, "reload").await,
        O::UpgradeServer => server::upgrade(control, call).await,
        // Orders of the admin socket come without a path.
        extension if !control.offers(extension) => Err(switched_off(extension)),
        O::GetRoomStats => crowds::get_stats(control, call).await,
        O::SendMessage => speech::send_message(control, call).await,
        O::SendMessages => speech::send_messages(control, call).await,
        O::SendUserEvent => user_event::send(control, call).await,
        O::ListMessages => history::list_messages(control, call).await,
        O::DeleteUserMessages | O::ClearRoom => purge::call(control, operation, call).await,
        O::EraseUser => erase::erase_user(control, call).await,
        O::DeleteMessages => messages::delete_messages(control, call).await,
        O::StartTally => tallies::start(control, call).await,
        O::StopTally => tallies::stop(control, call).await,
        O::GetTally => tallies::get(control, call).await,
        O::PinMessage | O::UnpinMessage => pins::call(control, operation, call).await,
        O::CreateBan | O::DeleteBan | O::ListBans => bans::call(control, operation, call).await,
        O::PutRuleSet | O::GetRuleSet | O::ListRuleSets | O::DeleteRuleSet | O::TestRuleSet => {
            rules::of_sets(control, operation, call).await
        }
        O::DecideHeld | O::ListHeld => held::call(control, operation, call).await,
        O::ListActiveRooms => crowds::list_active(control, call).await,
        O::ListRoomUsers => crowds::list_users(control, call).await,
        O::ListAuditRecords => audit::list(control, call).await,
    }
}

/// The refusal of an operation that this server does not offer.
pub(super) fn switched_off(operation: Operation) -> Fault {
    Fault::SwitchedOff {
        key: operation.family().switch(),
    }
}
