//! The log line of a refused API call: the caller, the operation, the reason and the answer's
//! request id.

use std::net::IpAddr;

use hyper::http::request::Parts;

use super::exchange::{CallContext, signed_headers, without_body};
use crate::control::fault::Fault;
use crate::control::op::authorize::resource;
use crate::control::operation::Operation;
use crate::logging::{Kind, bounded, local};
use uproar_proto::sigv4::Claim;

/// Logs that a call was refused, unless a line of its kind was logged within a second. A `key` is
/// authenticated, a `claimed_key` is not.
pub(super) fn log(
    fault: &Fault,
    context: &CallContext,
    parts: &Parts,
    operation: Option<Operation>,
    ip: IpAddr,
    request_id: &str,
) {
    let Some(suppressed) = local::admit(kind(fault, context)) else {
        return;
    };
    let resource = operation.and_then(|operation| resource(operation, &parts.uri, &context.body));
    let resource = resource.as_deref().map(bounded);
    let path = operation.is_none().then(|| bounded(parts.uri.path()));
    let operation = operation.map_or("unknown", Operation::name);
    let key = context.key.as_deref();
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

fn kind(fault: &Fault, context: &CallContext) -> Kind {
    if context.key.is_none() {
        return Kind::ApiUnauthenticated;
    }
    match fault {
        Fault::Denied { .. } | Fault::Banned | Fault::Signature(_) => Kind::ApiDenied,
        Fault::NotFound { .. } => Kind::ApiNotFound,
        Fault::Conflict { .. } => Kind::ApiConflict,
        Fault::Quota { .. } | Fault::Throttled { .. } => Kind::ApiLimit,
        Fault::Internal | Fault::Late | Fault::Busy => Kind::ApiFailed,
        Fault::NotAcceptable { .. }
        | Fault::Order(_)
        | Fault::Fields(_)
        | Fault::Body(_)
        | Fault::UnknownOperation
        | Fault::SwitchedOff { .. }
        | Fault::Method
        | Fault::BodyTooLarge
        | Fault::BodyTooSlow => Kind::ApiInvalid,
    }
}

/// The access key id that an unauthenticated request names.
fn claimed_key(parts: &Parts) -> Option<String> {
    let headers = signed_headers(parts);
    let claim = Claim::read(&without_body(parts, &headers)).ok()?;
    Some(claim.key_id.to_owned())
}
