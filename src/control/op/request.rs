//! An authenticated call, and its answer.

use std::rc::Rc;

use hyper::Uri;
use hyper::body::Bytes;
use serde_json::Value;

use crate::control::access::Caller;
use crate::control::operation::Operation;

/// A successful answer: status and body.
pub(in crate::control) type Answer = (u16, Option<Value>);

/// An authenticated call.
#[derive(Debug)]
pub(in crate::control) struct Request {
    pub(in crate::control) caller: Rc<Caller>,
    pub(in crate::control) operation: Operation,
    pub(in crate::control) uri: Uri,
    pub(in crate::control) body: Bytes,
}
