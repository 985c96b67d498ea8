//! Proof that a caller may make a call. Only one function makes it, and handlers of operations
//! accept nothing else, so that an operation without an authorization check does not compile.

use std::rc::Rc;

use hyper::Uri;

use super::request::Request;
use crate::control::access::Caller;
use crate::control::arn::ARN_CHARS_MAX;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::operation::{Operation, ResourceLocation, TAGS_PATH};
use uproar_proto::sigv4::percent_decode;

/// The API's name for the ARN in the path.
const PATH_FIELD: &str = "resourceArn";

/// An authorized call: [`authorize`] is the only way to create one.
#[derive(Debug)]
pub(super) struct Authorized {
    input: Input,
    location: ResourceLocation,
    // The ARN in the path; `None` for calls with another location.
    path_arn: Option<String>,
    query: String,
    /// The id of the caller's access key.
    pub(super) key_id: String,
    /// Whether chat tokens may have attributes of the server's.
    pub(super) allows_token_attributes: bool,
}

/// The ARN of a call's resource, which the caller may access, whether or not it exists.
#[derive(Debug)]
pub(super) struct ResourceArn {
    /// The member that has it, for errors.
    pub(super) field: &'static str,
    /// As received; it need not be an ARN.
    pub(super) text: String,
}

impl Authorized {
    /// The members of the body.
    pub(super) fn into_input(self) -> Input {
        self.input
    }

    /// The members of the body, and the ARN of the resource from where the table of operations says
    /// it is: a handler cannot look up another one than was authorized. A missing ARN is a fault of
    /// the input.
    ///
    /// # Panics
    ///
    /// If the operation has no single resource.
    pub(super) fn into_resource(mut self) -> (Input, ResourceArn) {
        let (field, text) = match self.location {
            ResourceLocation::Member(field) => {
                let chars = 1..=ARN_CHARS_MAX;
                (field, self.input.required_text(field, chars, ANY))
            }
            ResourceLocation::Path => (PATH_FIELD, self.path_arn.unwrap_or_default()),
            ResourceLocation::Nowhere => unreachable!("an operation without a resource"),
        };
        (self.input, ResourceArn { field, text })
    }

    /// The members of the body, to look at before the call is carried out.
    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    /// The ARN of its resource, as it was given.
    pub(super) fn resource_text(&self) -> Option<&str> {
        match self.location {
            ResourceLocation::Member(name) => self.input.peek(name),
            ResourceLocation::Path => self.path_arn.as_deref(),
            ResourceLocation::Nowhere => None,
        }
    }

    /// The query as received.
    pub(super) fn query(&self) -> &str {
        &self.query
    }
}

/// Refuses a caller whose key has no right to the operation or to its resource, existing or not.
///
/// # Errors
///
/// `AccessDeniedException`; `ValidationException` for a body or path without a readable resource.
pub(super) fn authorize(request: Request) -> Result<Authorized, Fault> {
    let Request {
        caller,
        operation,
        uri,
        body,
    } = request;
    if !caller.grant.allows(operation) {
        return Err(denied(&caller, operation, None));
    }
    let body: &[u8] = if operation.has_body() { &body } else { &[] };
    let input = Input::parse(body)?;
    let resource = resource_in(operation, &uri, &input)?;
    if !caller.grant.covers(resource.as_deref()) {
        return Err(denied(&caller, operation, resource));
    }
    let location = operation.resource_location();
    Ok(Authorized {
        input,
        location,
        path_arn: resource.filter(|_| location == ResourceLocation::Path),
        query: uri.query().unwrap_or_default().to_owned(),
        key_id: caller.id().to_owned(),
        allows_token_attributes: caller.grant.allows_token_attributes(),
    })
}

/// The ARN of a call's resource, for any caller; `None` if it is not readable.
pub(in crate::control) fn resource(operation: Operation, uri: &Uri, body: &[u8]) -> Option<String> {
    let body = if operation.has_body() { body } else { &[] };
    let input = Input::parse(body).ok()?;
    resource_in(operation, uri, &input).ok()?
}

fn resource_in(operation: Operation, uri: &Uri, input: &Input) -> Result<Option<String>, Fault> {
    Ok(match operation.resource_location() {
        ResourceLocation::Nowhere => None,
        ResourceLocation::Member(name) => input.peek(name).map(str::to_owned),
        ResourceLocation::Path => Some(path_arn(uri.path())?),
    })
}

fn denied(caller: &Rc<Caller>, operation: Operation, resource: Option<String>) -> Fault {
    Fault::Denied {
        key: caller.id().to_owned(),
        operation: operation.name(),
        resource,
    }
}

fn path_arn(path: &str) -> Result<String, Fault> {
    let escaped = path.strip_prefix(TAGS_PATH).unwrap_or_default();
    String::from_utf8(percent_decode(escaped))
        .map_err(|_| Fault::field(PATH_FIELD, "must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::access::{AccessKey, grant::Grant};

    const MINE: &str = "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA";
    const OTHER: &str = "arn:aws:ivschat:us-west-2:123456789012:room/BBBBBBBBBBBB";

    fn request(operation: Operation, grant: Grant, arn: &str) -> Request {
        let key = AccessKey {
            id: "AKIDTEST".to_owned(),
            secret: String::new().into(),
        };
        let (uri, body) = match operation.resource_location() {
            ResourceLocation::Path => (format!("/tags/{}", arn.replace(':', "%3A")), String::new()),
            ResourceLocation::Member(name) => ("/".to_owned(), format!("{{\"{name}\":\"{arn}\"}}")),
            ResourceLocation::Nowhere => ("/".to_owned(), String::new()),
        };
        Request {
            caller: Caller::new(key, grant),
            operation,
            uri: uri.parse().expect("a path"),
            body: body.into(),
        }
    }

    fn outcome(operation: Operation, grant: Grant, arn: &str) -> Result<(), Fault> {
        authorize(request(operation, grant, arn)).map(drop)
    }

    /// Goal: for every operation, a key limited to one resource reaches that one, no other, and
    /// neither creations nor listings; a key limited to other operations reaches nothing. Method:
    /// the whole table, so that it covers new operations as well.
    #[test]
    fn every_operation_checks_its_resource() {
        let is_denied = |outcome| matches!(outcome, Err(Fault::Denied { .. }));
        for operation in Operation::ALL.iter().copied() {
            let limited = || Grant::new(None, vec!["*:room/A*".to_owned()]);
            let own = outcome(operation, limited(), MINE);
            if operation.resource_location() == ResourceLocation::Nowhere {
                assert!(is_denied(own), "{operation:?} has no single resource");
            } else {
                assert_eq!(own, Ok(()), "{operation:?}");
            }
            assert!(
                is_denied(outcome(operation, limited(), OTHER)),
                "{operation:?}"
            );
            assert_eq!(
                outcome(operation, Grant::ALL, OTHER),
                Ok(()),
                "{operation:?}"
            );
            let others = Operation::ALL.iter().copied();
            let others: BTreeSet<_> = others.filter(|other| *other != operation).collect();
            let without = Grant::new(Some(others), Vec::new());
            assert!(
                is_denied(outcome(operation, without, MINE)),
                "{operation:?}"
            );
        }
    }

    /// Goal: a body that hides its resource (absent, not a string) reaches nothing with a limited
    /// key.
    #[test]
    fn an_unreadable_resource_is_denied() {
        for body in ["", "{}", "{\"identifier\":[1]}", "{\"identifier\":null}"] {
            let grant = Grant::new(None, vec!["*".to_owned()]);
            let mut call = request(Operation::GetRoom, grant, MINE);
            call.body = body.into();
            let outcome = authorize(call).map(drop);
            assert!(matches!(outcome, Err(Fault::Denied { .. })), "{body}");
        }
    }
}
