//! The operations of the API: one table of names, routes, resources and rates. Access keys, rate
//! limits and handlers refer to it. Those under `/uproar/v1/` are our own, for a server's operator.

use hyper::Method;

use super::fault::Fault;

/// Where a call carries the ARN of its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceLocation {
    /// Creations and listings have no single resource.
    Nowhere,
    /// A member of the body.
    Member(&'static str),
    /// The rest of the path, with or without escapes.
    Path,
}

/// Whose an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The managed service's.
    Ivs,
    /// About this server, for its operator: the managed service has nothing like it.
    Operator,
    /// Of rooms, beyond the managed service's: `extensions.enabled` switches them on. Last in the table.
    Extension,
}

impl Family {
    /// The key of the configuration that switches it on; empty for what is always there.
    pub(super) const fn switch(self) -> &'static str {
        match self {
            Self::Ivs => "",
            Self::Operator => "control.console",
            Self::Extension => "extensions.enabled",
        }
    }
}

/// Prefix of the operations that the managed service does not have.
const OWN_PATH: &str = "/uproar/v1/";

/// Prefix of a resource's ARN in the path of the tag operations.
pub(super) const TAGS_PATH: &str = "/tags/";

macro_rules! operations {
    ($($name:ident $method:ident $path:literal $location:ident$(($member:literal))?, $aws_rate:literal)*) => {
        /// An operation, named as the API names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the API's own names")]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its position in [`Operation::ALL`], and in an array with one entry for each.
            #[expect(clippy::as_conversions, reason = "the variants are counted from 0")]
            pub(super) const fn index(self) -> usize {
                self as usize
            }

            /// The API's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Where a call carries the ARN of its resource.
            pub(super) const fn resource_location(self) -> ResourceLocation {
                match self {
                    $(Self::$name => ResourceLocation::$location$(($member))?,)*
                }
            }

            /// Calls per second that the managed service allows an account, or that a page needs.
            pub const fn aws_rate(self) -> u32 {
                match self {
                    $(Self::$name => $aws_rate,)*
                }
            }

            /// Method and path; the rest after a path that ends in `/` is the resource.
            pub const fn route(self) -> (&'static Method, &'static str) {
                match self {
                    $(Self::$name => (&Method::$method, $path),)*
                }
            }
        }
    };
}

operations! {
    CreateChatToken            POST   "/CreateChatToken"              Member("roomIdentifier"), 200
    CreateLoggingConfiguration POST   "/CreateLoggingConfiguration"   Nowhere,                 3
    CreateRoom                 POST   "/CreateRoom"                   Nowhere,                 5
    DeleteLoggingConfiguration POST   "/DeleteLoggingConfiguration"   Member("identifier"),    3
    DeleteMessage              POST   "/DeleteMessage"                Member("roomIdentifier"), 100
    DeleteRoom                 POST   "/DeleteRoom"                   Member("identifier"),    5
    DisconnectUser             POST   "/DisconnectUser"               Member("roomIdentifier"), 100
    GetLoggingConfiguration    POST   "/GetLoggingConfiguration"      Member("identifier"),    3
    GetRoom                    POST   "/GetRoom"                      Member("identifier"),    5
    ListLoggingConfigurations  POST   "/ListLoggingConfigurations"    Nowhere,                 3
    ListRooms                  POST   "/ListRooms"                    Nowhere,                 5
    ListTagsForResource        GET    "/tags/"                        Path,                    10
    SendEvent                  POST   "/SendEvent"                    Member("roomIdentifier"), 100
    TagResource                POST   "/tags/"                        Path,                    10
    UntagResource              DELETE "/tags/"                        Path,                    10
    UpdateLoggingConfiguration POST   "/UpdateLoggingConfiguration"   Member("identifier"),    3
    UpdateRoom                 POST   "/UpdateRoom"                   Member("identifier"),    5
    GetStats                   POST   "/uproar/v1/GetStats"           Nowhere,                 100
    GetHistory                 POST   "/uproar/v1/GetHistory"         Nowhere,                 100
    GetServer                  POST   "/uproar/v1/GetServer"          Nowhere,                 10
    FindRooms                  POST   "/uproar/v1/FindRooms"          Nowhere,                 20
    FindUser                   POST   "/uproar/v1/FindUser"           Nowhere,                 10
    DescribeRoom               POST   "/uproar/v1/DescribeRoom"       Member("roomIdentifier"), 100
    TailRoom                   POST   "/uproar/v1/TailRoom"           Member("roomIdentifier"), 10
    DrainServer                POST   "/uproar/v1/DrainServer"        Nowhere,                 5
    CancelDrain                POST   "/uproar/v1/CancelDrain"        Nowhere,                 5
    ReloadServer               POST   "/uproar/v1/ReloadServer"       Nowhere,                 5
    UpgradeServer              POST   "/uproar/v1/UpgradeServer"      Nowhere,                 5
    GetRoomStats               POST   "/uproar/v1/GetRoomStats"       Member("roomIdentifier"), 100
    SendMessage                POST   "/uproar/v1/SendMessage"        Member("roomIdentifier"), 100
    SendMessages               POST   "/uproar/v1/SendMessages"       Member("roomIdentifier"), 100
    SendUserEvent              POST   "/uproar/v1/SendUserEvent"      Member("roomIdentifier"), 100
    DeleteMessages             POST   "/uproar/v1/DeleteMessages"     Member("roomIdentifier"), 100
    StartTally                 POST   "/uproar/v1/StartTally"         Member("roomIdentifier"), 100
    StopTally                  POST   "/uproar/v1/StopTally"          Member("roomIdentifier"), 100
    GetTally                   POST   "/uproar/v1/GetTally"           Member("roomIdentifier"), 100
    PinMessage                 POST   "/uproar/v1/PinMessage"         Member("roomIdentifier"), 100
    UnpinMessage               POST   "/uproar/v1/UnpinMessage"       Member("roomIdentifier"), 100
    CreateBan                  POST   "/uproar/v1/CreateBan"          Member("roomIdentifier"), 100
    DeleteBan                  POST   "/uproar/v1/DeleteBan"          Member("roomIdentifier"), 100
    ListBans                   POST   "/uproar/v1/ListBans"           Member("roomIdentifier"), 20
    ListActiveRooms            POST   "/uproar/v1/ListActiveRooms"    Nowhere,                 20
    ListRoomUsers              POST   "/uproar/v1/ListRoomUsers"      Member("roomIdentifier"), 20
    ListMessages               POST   "/uproar/v1/ListMessages"       Member("roomIdentifier"), 100
    DeleteUserMessages         POST   "/uproar/v1/DeleteUserMessages" Member("roomIdentifier"), 100
    ClearRoom                  POST   "/uproar/v1/ClearRoom"          Member("roomIdentifier"), 100
    ListAuditRecords           POST   "/uproar/v1/ListAuditRecords"   Member("roomIdentifier"), 20
    EraseUser                  POST   "/uproar/v1/EraseUser"          Nowhere,                 5
    PutRuleSet                 POST   "/uproar/v1/PutRuleSet"         Nowhere,                 100
    GetRuleSet                 POST   "/uproar/v1/GetRuleSet"         Nowhere,                 100
    ListRuleSets               POST   "/uproar/v1/ListRuleSets"       Nowhere,                 20
    DeleteRuleSet              POST   "/uproar/v1/DeleteRuleSet"      Nowhere,                 100
    TestRuleSet                POST   "/uproar/v1/TestRuleSet"        Nowhere,                 100
    DecideHeld                 POST   "/uproar/v1/DecideHeld"         Member("roomIdentifier"), 100
    ListHeld                   POST   "/uproar/v1/ListHeld"           Member("roomIdentifier"), 20
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

    /// Whether the body alone says what is to be done.
    pub fn is_by_body(self) -> bool {
        self.resource_location() != ResourceLocation::Path
    }

    /// Whose it is.
    pub fn family(self) -> Family {
        if self.index() >= Self::GetRoomStats.index() {
            Family::Extension
        } else if self.route().1.starts_with(OWN_PATH) {
            Family::Operator
        } else {
            Family::Ivs
        }
    }

    /// One at this path, whatever its method.
    pub(super) fn at(path: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| operation.route().1 == path)
    }

    /// Whether it changes what the whole server does, so that the log names who has asked.
    pub(super) fn acts_on_server(self) -> bool {
        matches!(
            self,
            Self::DrainServer | Self::CancelDrain | Self::ReloadServer | Self::UpgradeServer
        )
    }

    /// Whether a path is one of those operations, or could be in another version.
    pub(super) fn is_own_path(path: &str) -> bool {
        path.starts_with(OWN_PATH)
    }

    /// Whether the operation reads its body.
    pub(super) const fn has_body(self) -> bool {
        !matches!(self, Self::ListTagsForResource | Self::UntagResource)
    }

    /// Finds an operation by the API's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|operation| operation.name() == name)
    }

    /// Whether it takes something away from somebody, or holds people back: the audit file has it. Of SendEvent,
    /// SendUserEvent and the tags' operations only what does so.
    pub(super) const fn is_moderation(self) -> bool {
        matches!(
            self,
            Self::DeleteMessage
                | Self::DeleteMessages
                | Self::DisconnectUser
                | Self::DeleteUserMessages
                | Self::EraseUser
                | Self::ClearRoom
                | Self::CreateBan
                | Self::DeleteBan
                | Self::PinMessage
                | Self::UnpinMessage
                | Self::SendEvent
                | Self::SendUserEvent
                | Self::TagResource
                | Self::UntagResource
                | Self::PutRuleSet
                | Self::DeleteRuleSet
                | Self::DecideHeld
        )
    }

    /// Whether the operation waits for a disk or a shard, so that its caller may leave meanwhile. A
    /// new operation is assumed to wait: then it is carried out to its end, whether or not its
    /// caller stays.
    pub(super) const fn waits(self) -> bool {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// Goal: the shipped model for botocore, by which boto3 and the AWS CLI call the extensions' operations, has each of
    /// them as the table has it, with the members that carry the resource, and no other.
    #[test]
    fn the_shipped_model_has_the_extensions_operations() {
        let path = "deploy/botocore/uproar/2026-11-01/service-2.json";
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
            .expect("it is shipped");
        let model: Value = serde_json::from_str(&text).expect("JSON");
        let described = model["operations"].as_object().expect("an object");
        let described: BTreeMap<&str, (&str, &str)> = described
            .iter()
            .map(|(name, operation)| {
                let http = &operation["http"];
                let text = |member: &str| http[member].as_str().expect("a text");
                (&**name, (text("method"), text("requestUri")))
            })
            .collect();
        let own = Operation::ALL
            .iter()
            .filter(|own| own.family() == Family::Extension);
        let own: Vec<&Operation> = own.collect();
        let wanted = own
            .iter()
            .map(|own| (own.name(), (own.route().0.as_str(), own.route().1)));
        assert_eq!(described, wanted.collect());
        for operation in own {
            if let ResourceLocation::Member(member) = operation.resource_location() {
                let shape = &model["operations"][operation.name()]["input"]["shape"];
                let input = &model["shapes"][shape.as_str().expect("a name")];
                assert!(
                    input["members"][member].is_object(),
                    "{operation:?} has {member}"
                );
            }
        }
    }

    /// Goal: whoever reads the model, or the reference that is made of it, finds each operation and each member in words.
    #[test]
    fn the_shipped_model_says_what_everything_is() {
        let path = "deploy/botocore/uproar/2026-11-01/service-2.json";
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        let model: Value = serde_json::from_str(&text.expect("it is shipped")).expect("JSON");
        let says = |value: &Value| {
            value["documentation"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        };
        let operations = model["operations"].as_object().expect("an object");
        for (name, operation) in operations {
            assert!(says(operation), "{name} is not told");
        }
        let shapes = model["shapes"].as_object().expect("an object").iter();
        let members = shapes.flat_map(|(shape, described)| {
            let members = described["members"].as_object().into_iter().flatten();
            members.map(move |(member, described)| (shape, member, described))
        });
        for (shape, member, described) in members {
            assert!(says(described), "{shape}.{member} is not told");
        }
    }

    /// Goal: the families are as the paths say, and the extensions stand last.
    #[test]
    fn each_operation_has_its_family() {
        for operation in Operation::ALL {
            let is_own = Operation::is_own_path(operation.route().1);
            assert_eq!(is_own, operation.family() != Family::Ivs, "{operation:?}");
        }
        assert_eq!(Operation::UpgradeServer.family(), Family::Operator);
        assert_eq!(Operation::GetRoomStats.family(), Family::Extension);
    }
}
