//! The log line of a refused API call: who asked for what, why not, and which request id the answer had.

use std::net::IpAddr;

use hyper::http::request::Parts;

use super::{Called, signed_headers, without_body};
use crate::control::fault::Fault;
use crate::control::op::Operation;
use crate::logging::{Kind, bounded, local};
use crate::protocol::sigv4::Claim;

/// Says that a call was refused, if none of its kind was a second ago. A `key` is proven, a
/// `claimed_key` is not.
pub(super) fn say(
    fault: &Fault,
    called: &Called,
    parts: &Parts,
    operation: Option<Operation>,
    ip: IpAddr,
    request_id: &str,
) {
    let Some(suppressed) = local::admit(kind(fault, called)) else {
        return;
    };
    let resource = operation.and_then(|operation| operation.resource(&parts.uri, &called.body));
    let resource = resource.as_deref().map(bounded);
    let path = operation.is_none().then(|| bounded(parts.uri.path()));
    let operation = operation.map_or("unknown", Operation::name);
    let key = called.key.as_deref();
    let claimed = claimed_key(parts).filter(|_| key.is_none());
    let reason = fault.reason();
    tracing::warn!(
        %ip,
        operation,
        path = path.as_deref(),
        key,
        claimed_key = claimed.as_deref().map(bounded).as_deref(),
        resource = resource.as_deref(),
        status = fault.kind().1,
        reason = &*bounded(&reason),
        request_id,
        suppressed,
        "api call refused"
    );
}

fn kind(fault: &Fault, called: &Called) -> Kind {
    if called.key.is_none() {
        return Kind::ApiUnauthenticated;
    }
    match fault {
        Fault::Denied { .. } | Fault::Signature(_) => Kind::ApiDenied,
        Fault::NotFound { .. } => Kind::ApiNotFound,
        Fault::Conflict { .. } => Kind::ApiConflict,
        Fault::Quota { .. } | Fault::Throttled { .. } => Kind::ApiLimit,
        Fault::Internal | Fault::Late | Fault::Busy => Kind::ApiFailed,
        Fault::Fields(_)
        | Fault::Body(_)
        | Fault::UnknownOperation
        | Fault::Method
        | Fault::BodyTooLarge
        | Fault::BodyTooSlow => Kind::ApiInvalid,
    }
}

/// The access key id that an unproven request names.
fn claimed_key(parts: &Parts) -> Option<String> {
    let headers = signed_headers(parts);
    let claim = Claim::read(&without_body(parts, &headers)).ok()?;
    Some(claim.key_id.to_owned())
}
