//! Shared by rooms and logging configurations: lookup, creation and representation.

use std::io;

use serde_json::{Map, Value, json};

use super::authorize::ResourceArn;
use crate::control::arn::ResourceId;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::NAME;
use crate::control::record::{Record, ResourceHeader, RoomRecord};
use crate::control::registry::Cached;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use crate::random;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;

const NAME_CHARS_MAX: usize = 128;

/// The member `name`.
pub(super) fn name(input: &mut Input) -> Option<String> {
    input.text("name", 0..=NAME_CHARS_MAX, NAME)
}

/// The existing resource that an ARN names.
pub(super) fn find<R: Cached>(control: &Control, arn: &ResourceArn) -> Result<R::Id, Fault> {
    let id = control.settings.account.parse(&arn.text);
    let id = id.map_err(|error| Fault::field(arn.field, error))?;
    id.filter(|id| R::cache(&control.registry).contains(*id))
        .ok_or_else(|| Fault::not_found(&arn.text))
}

/// The existing resource with this ARN, which the member `field` has; in a cluster as [`find_or_wait`].
pub(super) async fn find_id_or_wait(
    control: &Control,
    field: &'static str,
    arn: &str,
) -> Result<RoomId, Fault> {
    let arn = ResourceArn {
        field,
        text: arn.to_owned(),
    };
    find_or_wait::<RoomRecord>(control, &arn).await
}

/// The same of a call that is answered from memory: in a cluster a resource that is not there may have just been
/// created elsewhere.
pub(super) async fn find_or_wait<R: Cached>(
    control: &Control,
    arn: &ResourceArn,
) -> Result<R::Id, Fault> {
    match find::<R>(control, arn) {
        Err(Fault::NotFound { .. }) if control.registry.is_shared() => {
            control.registry.barrier().await?;
            find::<R>(control, arn)
        }
        found => found,
    }
}

/// A header with a new id and the current time.
pub(super) fn new_header<R: Cached>(control: &Control) -> Result<ResourceHeader, Fault> {
    // Ids that repeat (`dev --seed`) come to those of a kept data directory, at most once each.
    let id = loop {
        let id = R::Id::from_random(random_id()?);
        if !R::cache(&control.registry).contains(id) {
            break id;
        }
    };
    Ok(ResourceHeader::new(id, now_ms(control)))
}

/// What an id is made of. A failure is logged.
pub(in crate::control) fn random_id() -> Result<u128, Fault> {
    Ok(u128::from_ne_bytes(checked(random::id_bytes())?))
}

/// Bytes that nobody can guess. A failure is logged.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], Fault> {
    checked(random::bytes())
}

fn checked<const N: usize>(bytes: io::Result<[u8; N]>) -> Result<[u8; N], Fault> {
    bytes.map_err(|error| {
        if let Some(suppressed) = local::admit(Kind::Random) {
            tracing::error!(%error, suppressed, "no random bytes for an id or a token");
        }
        Fault::Internal
    })
}

/// Members of every resource; those never set are absent.
pub(super) fn show<R: Record>(control: &Control, record: &R) -> Map<String, Value> {
    let header = record.header();
    let mut members = Map::new();
    let mut show = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    show("arn", control.settings.account.arn(record.id()).into());
    show("id", header.id.as_str().into());
    if let Some(name) = &header.name {
        show("name", name.as_str().into());
    }
    show("createTime", time(header.created_ms).into());
    show("updateTime", time(header.updated_ms).into());
    show("tags", json!(header.tags));
    members
}

/// Milliseconds since the epoch.
pub(super) fn now_ms(control: &Control) -> u64 {
    control.clock.now().unix.millis()
}

/// RFC 3339 with milliseconds.
fn time(ms: u64) -> String {
    format!("{:.3}", UnixTime::from_millis(ms).timestamp())
}
