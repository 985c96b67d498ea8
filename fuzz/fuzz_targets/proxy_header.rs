//! What proxies say: a PROXY header is one however its bytes arrive, and nobody but a trusted proxy can name a
//! viewer.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use uproar_proto::proxy::{ForwardedHeader, Preface, TrustedProxies, preface};

fuzz_target!(|data: &[u8]| {
    let whole = preface(data);
    let mut verdict = Ok(Preface::Incomplete);
    for end in 0..=data.len().min(300) {
        verdict = preface(&data[..end]);
        if verdict != Ok(Preface::Incomplete) {
            break;
        }
    }
    if verdict != Ok(Preface::Incomplete) {
        assert_eq!(whole, verdict, "more bytes change a verdict");
    }
    if let Ok(Preface::Header { len, .. }) = whole {
        assert!(len <= data.len());
        assert!(data.starts_with(b"PROXY ") || data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    }

    let stranger: IpAddr = [203, 0, 113, 9].into();
    let proxy: IpAddr = [10, 0, 0, 1].into();
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let network = TrustedProxies::parse_network("10.0.0.0/8").expect("a network");
        let trusted = TrustedProxies::new(vec![network], header);
        assert_eq!(trusted.viewer(stranger, [data].into_iter()), stranger);
        let appended: &[u8] = match header {
            ForwardedHeader::XForwardedFor => b"203.0.113.9",
            ForwardedHeader::Forwarded => b"for=203.0.113.9",
        };
        let joined = [data, b",", appended].concat();
        assert_eq!(trusted.viewer(proxy, [&joined[..]].into_iter()), stranger);
        assert_eq!(
            trusted.viewer(proxy, [data, appended].into_iter()),
            stranger
        );
    }
});
