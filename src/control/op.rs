//! The operations of the API, one table.

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
use super::input::Input;

/// What precedes a resource's ARN in the path of the tag operations.
const TAGS_PATH: &str = "/tags/";

macro_rules! operations {
    ($($name:ident $method:ident $path:literal $about:literal $aws_rate:literal)*) => {
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

            /// Which member is the ARN of the resource it is about; empty: none.
            const fn about(self) -> &'static str {
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

            /// Method and path; what follows a path that ends in `/` is the resource.
            const fn route(self) -> (&'static Method, &'static str) {
                match self {
                    $(Self::$name => (&Method::$method, $path),)*
                }
            }
        }
    };
}

operations! {
    CreateChatToken            POST   "/CreateChatToken"            "roomIdentifier" 200
    CreateLoggingConfiguration POST   "/CreateLoggingConfiguration" ""               3
    CreateRoom                 POST   "/CreateRoom"                 ""               5
    DeleteLoggingConfiguration POST   "/DeleteLoggingConfiguration" "identifier"     3
    DeleteMessage              POST   "/DeleteMessage"              "roomIdentifier" 100
    DeleteRoom                 POST   "/DeleteRoom"                 "identifier"     5
    DisconnectUser             POST   "/DisconnectUser"             "roomIdentifier" 100
    GetLoggingConfiguration    POST   "/GetLoggingConfiguration"    "identifier"     3
    GetRoom                    POST   "/GetRoom"                    "identifier"     5
    ListLoggingConfigurations  POST   "/ListLoggingConfigurations"  ""               3
    ListRooms                  POST   "/ListRooms"                  ""               5
    ListTagsForResource        GET    "/tags/"                      "resourceArn"    10
    SendEvent                  POST   "/SendEvent"                  "roomIdentifier" 100
    TagResource                POST   "/tags/"                      "resourceArn"    10
    UntagResource              DELETE "/tags/"                      "resourceArn"    10
    UpdateLoggingConfiguration POST   "/UpdateLoggingConfiguration" "identifier"     3
    UpdateRoom                 POST   "/UpdateRoom"                 "identifier"     5
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
    /// By method and path.
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

    /// By the API's name.
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

impl Request {
    /// The members of the body, of a call that its caller may make.
    fn input(&self) -> Result<Input, Fault> {
        let input = Input::parse(&self.body)?;
        self.permit(input.peek(self.operation.about()))?;
        Ok(input)
    }

    /// Refuses a caller who has no right to this resource, existing or not.
    fn permit(&self, arn: Option<&str>) -> Result<(), Fault> {
        if self.caller.grant.covers(arn) {
            return Ok(());
        }
        Err(self.denied(arn))
    }

    fn denied(&self, arn: Option<&str>) -> Fault {
        Fault::Denied {
            key: self.caller.id().to_owned(),
            operation: self.operation.name(),
            resource: arn.map(str::to_owned),
        }
    }
}

/// Does one authenticated call. What it changes is changed as a whole, whether or not its caller stays.
pub(super) async fn call(control: &Rc<Control>, request: Request) -> Result<Answer, Fault> {
    if !request.caller.grant.allows(request.operation) {
        return Err(request.denied(None));
    }
    let now = control.clock.now().tick;
    control.throttle.take(request.operation, now)?;
    if !request.operation.waits() {
        return dispatch(control, request).await;
    }
    // A caller that leaves drops this future, not the task: memory and shards follow the disk.
    let control = Rc::clone(control);
    let task = tokio::task::spawn_local(async move { dispatch(&control, request).await });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an operation ended without an answer");
        Err(Fault::Internal)
    })
}

async fn dispatch(control: &Control, request: Request) -> Result<Answer, Fault> {
    use Operation as O;
    match request.operation {
        O::CreateChatToken => tokens::create_chat_token(control, request.input()?),
        O::CreateRoom => rooms::create(control, request.input()?).await,
        O::GetRoom => rooms::get(control, request.input()?),
        O::UpdateRoom => rooms::update(control, request.input()?).await,
        O::DeleteRoom => rooms::delete(control, request.input()?).await,
        O::ListRooms => rooms::list(control, request.input()?),
        O::SendEvent => messages::send_event(control, request.input()?).await,
        O::DeleteMessage => messages::delete_message(control, request.input()?).await,
        O::DisconnectUser => messages::disconnect_user(control, request.input()?).await,
        O::CreateLoggingConfiguration => logging::create(control, request.input()?).await,
        O::GetLoggingConfiguration => logging::get(control, request.input()?),
        O::UpdateLoggingConfiguration => logging::update(control, request.input()?).await,
        O::DeleteLoggingConfiguration => logging::delete(control, request.input()?).await,
        O::ListLoggingConfigurations => logging::list(control, request.input()?),
        O::ListTagsForResource => tags::list(control, &request),
        O::TagResource => tags::tag(control, &request).await,
        O::UntagResource => tags::untag(control, &request).await,
    }
}
