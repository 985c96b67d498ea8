//! Answers of API calls: JSON bodies, error types, and the headers that every answer has.

use hyper::body::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderName,
    HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::body::{Answered, whole};
use crate::random;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Headers browsers may send; `*` does not cover `authorization`.
const ALLOWED_HEADERS: &str = "*,authorization,content-type,x-amz-content-sha256,x-amz-date,\
     x-amz-security-token,x-amz-user-agent,x-amz-target,amz-sdk-invocation-id,amz-sdk-request";
/// Headers a page's scripts may read; `date` tells an SDK that the device's clock is wrong.
const EXPOSED_HEADERS: &str = "x-amzn-RequestId,x-amzn-ErrorType,date";

/// An answer with a JSON body, or without a body.
pub(super) fn json_response(
    status: u16,
    body: Option<&serde_json::Value>,
    error_type: Option<&'static str>,
) -> Answered {
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let mut response = Response::new(whole(bytes));
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(kind) = error_type {
        headers.insert(ERROR_TYPE, HeaderValue::from_static(kind));
    }
    response
}

/// Adds the headers that every answer has: CORS, and the request's id.
pub(super) fn with_headers(mut response: Answered, request_id: &str) -> Answered {
    let headers = response.headers_mut();
    let fixed = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,DELETE,OPTIONS"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// Shaped like a version 4 UUID.
pub(super) fn request_id() -> String {
    let random = random::quick().u128(..);
    let versioned = random & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{versioned:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
