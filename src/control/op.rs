//! The operations of the API, one table.

mod authorize;
#[cfg(fuzzing)]
pub mod fuzzing;
mod listing;
mod logging;
mod messages;
mod resource;
pub mod rooms;
mod tags;
mod tokens;

use std::rc::Rc;

use hyper::body::Bytes;
use hyper::{Method, Uri};
use serde_json::Value;

use super::Control;
use super::access::Caller;
use super::fault::Fault;
use crate::logging::{Kind, local};
use authorize::{About, Authorized};
use uproar_proto::base::limits::{CALL_ANSWER_MAX, CALLS_OPEN_MAX};

/// Prefix of a resource's ARN in the path of the tag operations.
const TAGS_PATH: &str = "/tags/";

macro_rules! operations {
    ($($name:ident $method:ident $path:literal $about:expr, $aws_rate:literal)*) => {
        /// An operation, named as the API names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the API's own names")]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The API's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Where a call carries the ARN of its resource.
            const fn about(self) -> About {
                match self {
                    $(Self::$name => $about,)*
                }
            }

            /// Calls per second of one account at the managed service (contract §6).
            pub const fn aws_rate(self) -> u32 {
                match self {
                    $(Self::$name => $aws_rate,)*
                }
            }

            /// Method and path; the rest after a path that ends in `/` is the resource.
            const fn route(self) -> (&'static Method, &'static str) {
                match self {
                    $(Self::$name => (&Method::$method, $path),)*
                }
            }
        }
    };
}

operations! {
    CreateChatToken            POST   "/CreateChatToken"            About::Member("roomIdentifier"),  200
    CreateLoggingConfiguration POST   "/CreateLoggingConfiguration" About::Nothing,                   3
    CreateRoom                 POST   "/CreateRoom"                 About::Nothing,                   5
    DeleteLoggingConfiguration POST   "/DeleteLoggingConfiguration" About::Member("identifier"),      3
    DeleteMessage              POST   "/DeleteMessage"              About::Member("roomIdentifier"),  100
    DeleteRoom                 POST   "/DeleteRoom"                 About::Member("identifier"),      5
    DisconnectUser             POST   "/DisconnectUser"             About::Member("roomIdentifier"),  100
    GetLoggingConfiguration    POST   "/GetLoggingConfiguration"    About::Member("identifier"),      3
    GetRoom                    POST   "/GetRoom"                    About::Member("identifier"),      5
    ListLoggingConfigurations  POST   "/ListLoggingConfigurations"  About::Nothing,                   3
    ListRooms                  POST   "/ListRooms"                  About::Nothing,                   5
    ListTagsForResource        GET    "/tags/"                      About::Path,                      10
    SendEvent                  POST   "/SendEvent"                  About::Member("roomIdentifier"),  100
    TagResource                POST   "/tags/"                      About::Path,                      10
    UntagResource              DELETE "/tags/"                      About::Path,                      10
    UpdateLoggingConfiguration POST   "/UpdateLoggingConfiguration" About::Member("identifier"),      3
    UpdateRoom                 POST   "/UpdateRoom"                 About::Member("identifier"),      5
}

/// A successful answer: status and body.
pub(super) type Answer = (u16, Option<Value>);

/// An authenticated call.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) caller: Rc<Caller>,
    pub(super) operation: Operation,
    pub(super) uri: Uri,
    pub(super) body: Bytes,
}

impl Operation {
    /// Finds an operation by method and path.
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, Fault> {
        let path = if path.starts_with(TAGS_PATH) {
            TAGS_PATH
        } else {
            path
        };
        let mut wrong = Fault::UnknownOperation;
        for operation in Self::ALL {
            let (its_method, its_path) = operation.route();
            if its_path == path {
                if its_method == method {
                    return Ok(*operation);
                }
                wrong = Fault::Method;
            }
        }
        Err(wrong)
    }

    /// Whether the operation reads its body.
    const fn has_body(self) -> bool {
        !matches!(self, Self::ListTagsForResource | Self::UntagResource)
    }

    /// Finds an operation by the API's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| operation.name() == name)
    }

    /// Whether the operation waits for a disk or a shard, so that its caller may leave meanwhile.
    const fn waits(self) -> bool {
        !matches!(
            self,
            Self::CreateChatToken
                | Self::GetRoom
                | Self::ListRooms
                | Self::GetLoggingConfiguration
                | Self::ListLoggingConfigurations
                | Self::ListTagsForResource
        )
    }
}

/// Executes one authenticated call. Its changes are atomic, whether or not its caller stays.
pub(super) async fn call(control: &Rc<Control>, request: Request) -> Result<Answer, Fault> {
    let operation = request.operation;
    let call = authorize::authorize(request)?;
    control.throttle.take(operation, control.clock.now().tick)?;
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

async fn dispatch(
    control: &Control,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    use Operation as O;
    match operation {
        O::CreateChatToken => tokens::create_chat_token(control, call),
        O::CreateRoom => rooms::create(control, call).await,
        O::GetRoom => rooms::get(control, call),
        O::UpdateRoom => rooms::update(control, call).await,
        O::DeleteRoom => rooms::delete(control, call).await,
        O::ListRooms => rooms::list(control, call),
        O::SendEvent => messages::send_event(control, call).await,
        O::DeleteMessage => messages::delete_message(control, call).await,
        O::DisconnectUser => messages::disconnect_user(control, call).await,
        O::CreateLoggingConfiguration => logging::create(control, call).await,
        O::GetLoggingConfiguration => logging::get(control, call),
        O::UpdateLoggingConfiguration => logging::update(control, call).await,
        O::DeleteLoggingConfiguration => logging::delete(control, call).await,
        O::ListLoggingConfigurations => logging::list(control, call),
        O::ListTagsForResource => tags::list(control, call),
        O::TagResource => tags::tag(control, call).await,
        O::UntagResource => tags::untag(control, call).await,
    }
}
