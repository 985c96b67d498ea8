//! Signatures: what our signer signs verifies as it goes over the wire, nothing that differs in a bit does, and
//! what a stranger writes into the Authorization header proves nothing.
//!
//! Input: an edit (what, place), then method, path, query, a header's value, Authorization and body in lines; the
//! body is the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::sigv4::sign::{Credentials, Outgoing, escape_path, sign};
use uproar_proto::sigv4::{Claim, Received, Scope, SigningKey};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const SECRET: &str = "a secret of thirty-two characters";
const SCOPE: Scope<'static> = Scope {
    region: "us-west-2",
    service: "ivschat",
};
const HOST: &str = "127.0.0.1:8081";

fuzz_target!(|data: &[u8]| {
    let Some((&[what, place], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut lines = rest.splitn(6, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, path, query) = (line(), line(), line());
    let (value, authorization, body) = (line(), line(), line());
    stranger(method, path, query, value, authorization, body);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    // What a client sends is ASCII; hyper lets nothing else through in a target.
    let ascii = |bytes: &[u8]| {
        let graphic = bytes
            .iter()
            .filter(|byte| byte.is_ascii_graphic() && **byte != b'#');
        String::from_utf8(graphic.copied().collect()).expect("ASCII")
    };
    let path = format!("/{}", escape_path(&text(path)));
    let (method, query) = (ascii(method), ascii(query));
    let value = ascii(value);
    genuine(&method, &path, &query, &value, body, [what, place]);
});

/// Nobody without the secret is believed, whatever is claimed.
fn stranger(
    method: &[u8],
    path: &[u8],
    query: &[u8],
    value: &[u8],
    authorization: &[u8],
    body: &[u8],
) {
    let (Ok(method), Ok(path), Ok(query)) = (
        std::str::from_utf8(method),
        std::str::from_utf8(path),
        std::str::from_utf8(query),
    ) else {
        return;
    };
    let headers = [
        ("host", HOST.as_bytes()),
        ("x-amz-date", &b"20270115T080000Z"[..]),
        ("x-amz-meta", value),
        ("authorization", authorization),
    ];
    let received = Received {
        method,
        path,
        query,
        headers: &headers,
        body,
    };
    let Ok(claim) = Claim::read(&received) else {
        return;
    };
    assert!(
        !claim.key_id.is_empty()
            || authorization
                .windows(12)
                .any(|part| part == b"Credential=/")
    );
    let key = SigningKey::derive(SECRET, claim.date(), SCOPE);
    assert!(claim.verify(&received, SCOPE, &key, NOW).is_err());
}

fn genuine(
    method: &str,
    path: &str,
    query: &str,
    value: &str,
    body: &[u8],
    [what, place]: [u8; 2],
) {
    let credentials = Credentials {
        key_id: "AKIDUPROARTEST000000".to_owned(),
        secret: SECRET.to_owned().into(),
        session_token: None,
    };
    let outgoing = Outgoing {
        method,
        path,
        query,
        host: HOST,
        headers: &[("x-amz-meta", value)],
        body,
    };
    let added = sign(&outgoing, &credentials, SCOPE, NOW);
    let mut headers = vec![("host", HOST.as_bytes()), ("x-amz-meta", value.as_bytes())];
    headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
    let received = Received {
        method,
        path,
        query,
        headers: &headers,
        body,
    };
    let verify = |received: &Received<'_>| {
        let claim = Claim::read(received)?;
        assert_eq!(claim.key_id, credentials.key_id);
        let key = SigningKey::derive(SECRET, claim.date(), SCOPE);
        claim.verify(received, SCOPE, &key, NOW)
    };
    assert_eq!(verify(&received), Ok(()), "{received:?}");

    // One change of what was signed. Blanks at a value's ends are not part of it, so letters are changed.
    let place = usize::from(place);
    let change = |text: &[u8]| {
        let mut text = text.to_vec();
        if let Some(at) = place.checked_rem(text.len()) {
            text[at] = if text[at] == b'a' { b'b' } else { b'a' };
        }
        text
    };
    let changed_body = change(body);
    let changed_value = change(value.as_bytes());
    let changed_method = String::from_utf8(change(method.as_bytes())).expect("ASCII");
    let mut forged = received;
    let changed_headers: Vec<_> = headers
        .iter()
        .map(|(name, its)| {
            (
                *name,
                if *name == "x-amz-meta" {
                    &*changed_value
                } else {
                    *its
                },
            )
        })
        .collect();
    match what % 4 {
        0 => forged.body = &changed_body,
        1 => forged.method = &changed_method,
        2 => forged.headers = &changed_headers,
        _ => forged.body = body.split_last().map_or(b"more", |(_, rest)| rest),
    }
    let same = forged.body == received.body
        && forged.method == received.method
        && forged.headers == received.headers;
    assert!(same || verify(&forged).is_err(), "{forged:?}");
}
