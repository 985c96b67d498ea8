//! The operator's page: a sign-in form until a key is typed in, and everything it shows then comes by signed calls of
//! the API. The files have nothing secret in them.

use hyper::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
};
use hyper::{Method, Response};

use super::body::{Answered, whole};
use crate::control::state::Control;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const PATH: &str = "/console";

/// What the page's head says of the region, which is part of every signature.
const REGION: &str = "{region}";

/// Name below `/console/`, content type, content.
const FILES: &[(&str, &str, &str)] = &[
    (
        "console.css",
        "text/css; charset=utf-8",
        include_str!("page/console.css"),
    ),
    ("api.js", SCRIPT, include_str!("page/api.js")),
    ("chart.js", SCRIPT, include_str!("page/chart.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("element.js", SCRIPT, include_str!("page/element.js")),
    ("figures.js", SCRIPT, include_str!("page/figures.js")),
    ("format.js", SCRIPT, include_str!("page/format.js")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("operations.js", SCRIPT, include_str!("page/operations.js")),
    ("overview.js", SCRIPT, include_str!("page/overview.js")),
    ("room.js", SCRIPT, include_str!("page/room.js")),
    ("rooms.js", SCRIPT, include_str!("page/rooms.js")),
    ("settings.js", SCRIPT, include_str!("page/settings.js")),
    ("sign-in.js", SCRIPT, include_str!("page/sign-in.js")),
    ("sign.js", SCRIPT, include_str!("page/sign.js")),
    ("users.js", SCRIPT, include_str!("page/users.js")),
    ("tail.js", SCRIPT, include_str!("page/tail.js")),
];

const INDEX: &str = include_str!("page/index.html");

/// From this listener alone, nothing inline, no frame around it, and no text that becomes markup.
const SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The page or one of its files; `None`: there is none, or the path is another one's.
pub(super) fn page(control: &Control, method: &Method, path: &str) -> Option<Answered> {
    if !control.has_console() || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let region = &control.settings.account.region;
    let rest = path.strip_prefix(PATH)?;
    let (kind, body) = match rest.strip_prefix('/') {
        None if rest.is_empty() => (
            "text/html; charset=utf-8",
            INDEX.replace(REGION, &escaped(region)),
        ),
        None => return None,
        Some(name) => {
            let (_, kind, content) = FILES.iter().find(|(file, ..)| *file == name)?;
            (*kind, (*content).to_owned())
        }
    };
    let mut response = Response::new(whole(body));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, SECURITY),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// A region is a text of the configuration.
fn escaped(region: &str) -> String {
    region
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}
