//! Links of a message: addresses with `://`, those that begin with `www.`, and names that end as sites do.

use std::net::Ipv4Addr;
use std::ops::Range;

/// An address in a folded text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// All of it.
    pub(super) whole: Range<usize>,
    /// The name of its host.
    pub(super) host: Range<usize>,
}

/// Ends of names that are sites' without more: with a path, any is.
const ENDS: &[&str] = &[
    "ai", "app", "art", "biz", "blog", "click", "club", "co", "com", "dev", "edu", "fun", "game",
    "games", "gov", "icu", "info", "io", "life", "link", "live", "lol", "mobi", "moe", "net",
    "news", "online", "org", "pro", "shop", "site", "space", "store", "stream", "tech", "today",
    "top", "vip", "website", "win", "work", "wtf", "xxx", "xyz", "zip",
];

/// Ends behind a name of two characters or more: those of countries, and newer ones.
#[rustfmt::skip]
const ENDS_OF_NAMES: &[&str] = &[
    "ac", "ae", "af", "ag", "al", "ao", "aq", "ar", "au", "aw", "ax", "az", "ba", "bb", "bd", "bf",
    "bg", "bh", "bi", "bj", "bm", "bn", "bo", "br", "bs", "bt", "bw", "bz", "ca", "cc", "cd", "cf",
    "cg", "ch", "ci", "ck", "cl", "cm", "cn", "cr", "cu", "cv", "cw", "cx", "cy", "cz", "de", "dj",
    "dk", "dm", "dz", "ec", "ee", "eg", "eu", "fi", "fj", "fk", "fm", "fo", "fr", "ga", "gd", "ge",
    "gf", "gh", "gi", "gl", "gm", "gn", "gp", "gq", "gr", "gs", "gt", "gu", "gw", "gy", "hk", "hm",
    "hn", "hr", "ht", "hu", "ie", "il", "iq", "ir", "je", "jm", "jo", "jp", "ke", "kg", "kh", "ki",
    "km", "kn", "kp", "kr", "kw", "ky", "kz", "lb", "lc", "li", "lk", "lr", "ls", "lt", "lu", "lv",
    "ly", "mc", "md", "mg", "mh", "mk", "ml", "mm", "mn", "mp", "mq", "mt", "mv", "mw", "mx", "mz",
    "nc", "nf", "ng", "ni", "nl", "np", "nr", "nu", "nz", "om", "pe", "pf", "pg", "ph", "pk", "pl",
    "pn", "pr", "pt", "pw", "py", "qa", "re", "ro", "rs", "ru", "rw", "sb", "sc", "sd", "sg", "sh",
    "sk", "sl", "sm", "sn", "sr", "ss", "su", "sv", "sx", "sy", "sz", "tc", "td", "tf", "tg", "th",
    "tj", "tk", "tl", "tm", "tn", "tr", "tt", "tv", "tw", "tz", "ua", "ug", "uk", "uy", "uz", "vc",
    "ve", "vg", "vi", "vn", "vu", "wf", "ws", "ye", "yt", "za", "zm", "zw",
    // As it is folded: Cyrillic.
    "pф",
    "academy", "agency", "asia", "bet", "bid", "bio", "bond", "buzz", "cam", "cash", "casino", "cfd",
    "chat", "city", "cloud", "codes", "dating", "design", "digital", "download", "email", "exchange",
    "fans", "finance", "fund", "fyi", "gift", "gifts", "global", "gold", "group", "guru", "host",
    "ink", "jobs", "kim", "loan", "ltd", "market", "media", "money", "monster", "network", "ninja",
    "page", "party", "photo", "photos", "pics", "poker", "porn", "press", "promo", "quest", "racing",
    "review", "rip", "rocks", "sale", "sbs", "science", "services", "sex", "sexy", "skin", "social",
    "solutions", "studio", "support", "surf", "systems", "tips", "tools", "trade", "tube", "video",
    "wang", "wiki", "world", "zone",
];

/// Ends that are words, which follow a full stop where a space was forgotten: behind a name of four characters or more.
const ENDS_OF_LONG_NAMES: &[&str] = &[
    "am", "as", "at", "be", "by", "do", "er", "es", "et", "gg", "id", "im", "in", "is", "it", "la",
    "ma", "me", "mr", "ms", "mu", "my", "na", "ne", "no", "pa", "pm", "ps", "sa", "se", "si", "so",
    "st", "to", "us", "va",
];

/// What is between the name of a scheme and its address, in the path of another one, too.
const BEHIND_SCHEMES: &[&str] = &["://", ":\\", "%3a//", ":%2f%2f", "%3a%2f%2f"];

/// The links of a folded text to hosts that are not allowed, in order: each ends at white space.
pub(super) fn links(text: &str, is_allowed: impl Fn(Range<usize>) -> bool) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut rest = 0;
    while let Some((from, host)) = next(text, rest) {
        if is_allowed(host.clone()) {
            rest = behind_allowed(text, host.end);
        } else {
            rest = end(text, host.end, char::is_whitespace);
            let whole = from..rest;
            links.push(Link { whole, host });
        }
    }
    links
}

/// Where the next address begins, and its host.
fn next(text: &str, mut rest: usize) -> Option<(usize, Range<usize>)> {
    loop {
        let from = rest + text.get(rest..)?.find(is_of_host)?;
        let to = end(text, from, |c| !is_of_host(c));
        let behind = text.get(to..).unwrap_or_default();
        rest = to;
        let (first, host) = if let Some(sign) = behind_scheme(behind, to - from) {
            rest = to + sign.len();
            (from, authority(text, rest, sign.contains('%')))
        } else {
            let host = trimmed(text, from..to, |c| matches!(c, '.' | '-'));
            let name = text.get(host.clone()).unwrap_or_default();
            if !is_site(name, has_path(behind)) {
                continue;
            }
            (host.start, host)
        };
        if !host.is_empty() {
            return Some((first, host));
        }
    }
}

/// The sign behind a scheme whose name has `length` bytes.
fn behind_scheme(behind: &str, length: usize) -> Option<&'static str> {
    let signs = BEHIND_SCHEMES.iter().copied();
    // A disk of Windows is no scheme.
    let mut signs = signs.filter(|sign| length > 1 || !sign.contains('\\'));
    signs.find(|sign| behind.starts_with(sign))
}

/// The host of the address from here on, as browsers read it: behind the last `@`, and before the port.
fn authority(text: &str, from: usize, is_encoded: bool) -> Range<usize> {
    let from = end(text, from, |c| !matches!(c, '/' | '\\'));
    let mut to = end(text, from, |c| {
        matches!(c, '/' | '?' | '#' | '\\') || (is_encoded && c == '&') || c.is_whitespace()
    });
    if is_encoded {
        let inner = text.get(from..to).unwrap_or_default();
        let ends = ["%2f", "%3f", "%23"].iter();
        let first = ends.filter_map(|sign| inner.find(sign)).min();
        to = first.map_or(to, |length| from + length);
    }
    let all = text.get(from..to).unwrap_or_default();
    let from = all.rfind('@').map_or(from, |at| from + at + 1);
    let host = text.get(from..to).unwrap_or_default();
    if !host.starts_with('[') {
        to = host.find(':').map_or(to, |length| from + length);
    }
    trimmed(text, from..to, |c| !c.is_alphanumeric())
}

/// Where to look on behind the host of an allowed link: behind its path, or where another address begins in it.
fn behind_allowed(text: &str, host_end: usize) -> usize {
    let behind = text.get(host_end..).unwrap_or_default();
    let port = behind.strip_prefix(':').unwrap_or(behind);
    let path = port.trim_start_matches(|c: char| c.is_ascii_digit());
    if !path.starts_with(['/', '?', '#']) {
        return host_end;
    }
    let start = text.len() - path.len();
    for (at, c) in path.char_indices() {
        let rest = path.get(at..).unwrap_or_default();
        if matches!(c, ':' | '%') && behind_scheme(rest, 2).is_some() {
            let before = path.get(..at).unwrap_or_default();
            return start + before.trim_end_matches(is_of_host).len();
        }
        if ends_path(c) {
            return start + at;
        }
    }
    text.len()
}

/// Whether no address goes on with it.
fn ends_path(c: char) -> bool {
    if c.is_ascii() {
        !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '|' | '{' | '}' | '^' | '`' | '\\')
    } else {
        !c.is_alphanumeric()
    }
}

/// Whether a path, port or query follows a name.
fn has_path(behind: &str) -> bool {
    let mut chars = behind.chars();
    let (first, second) = (chars.next(), chars.next());
    match first {
        Some('/') => true,
        Some(':') => second.is_some_and(|c| c.is_ascii_digit()),
        // Or it is the end of a sentence.
        Some('?' | '#') => second.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '=')),
        _ => false,
    }
}

/// Where the first such character is, or the text's end.
fn end(text: &str, from: usize, is_end: impl Fn(char) -> bool) -> usize {
    let found = text.get(from..).and_then(|rest| rest.find(is_end));
    found.map_or(text.len(), |length| from + length)
}

/// Whether a host is one of those that are allowed, or below one: letter by letter, so that no look-alike is.
pub(super) fn is_allowed(host: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|name| {
        let above = host.len().checked_sub(name.len());
        let above = above.and_then(|length| host.split_at_checked(length));
        above.is_some_and(|(before, end)| {
            end.eq_ignore_ascii_case(name) && (before.is_empty() || before.ends_with('.'))
        })
    })
}

fn is_of_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '.' || (!c.is_ascii() && c.is_alphanumeric())
}

fn trimmed(text: &str, range: Range<usize>, is_off: impl Fn(char) -> bool) -> Range<usize> {
    let name = text.get(range.clone()).unwrap_or_default();
    let start = name.trim_start_matches(&is_off);
    let from = range.end - start.len();
    from..from + start.trim_end_matches(&is_off).len()
}

fn is_site(name: &str, has_path: bool) -> bool {
    let Some((before, end)) = name.rsplit_once('.') else {
        return false;
    };
    if before.is_empty() || before.ends_with('.') {
        return false;
    }
    if has_path && name.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let labels = before.split('.');
    let labels = labels.filter(|label| label.chars().any(char::is_alphabetic));
    let longest = labels.map(|label| label.chars().count()).max();
    let is_named = |least| longest.is_some_and(|longest| longest >= least);
    let is_word = end.len() >= 2 && end.chars().all(char::is_alphabetic);
    name.starts_with("www.")
        || end.starts_with("xn--")
        || ENDS.contains(&end)
        || (is_named(2) && ENDS_OF_NAMES.contains(&end))
        || (is_named(4) && ENDS_OF_LONG_NAMES.contains(&end))
        || (has_path && is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, &str)> {
        let links = links(text, |_| false).into_iter();
        let of = |range: Range<usize>| text.get(range).expect("within the text");
        links.map(|link| (of(link.whole), of(link.host))).collect()
    }

    /// Goal: what people click is found, with its host; what has a dot by chance is not.
    #[test]
    fn links_are_found() {
        for (text, wanted) in [
            (
                "see https://example.com/a?b=c now",
                &[("https://example.com/a?b=c", "example.com")][..],
            ),
            (
                "http://localhost:80/",
                &[("http://localhost:80/", "localhost")],
            ),
            (
                "www.example.zz and example.com.",
                &[
                    ("www.example.zz", "www.example.zz"),
                    ("example.com.", "example.com"),
                ],
            ),
            ("(a.b.co.uk)", &[("a.b.co.uk)", "a.b.co.uk")]),
            ("some.thing/path", &[("some.thing/path", "some.thing")]),
            (
                "https://youtube.com@evil.zz/",
                &[("https://youtube.com@evil.zz/", "evil.zz")],
            ),
            ("me@mail.com", &[("mail.com", "mail.com")]),
            ("https://", &[]),
            ("://a", &[]),
            ("hello.how are you... 3.14 v1.2 e.g. a.b .com ..com", &[]),
            ("wait.what", &[]),
            ("really.what? yes.but: no", &[]),
            ("", &[]),
            (".", &[]),
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
    }

    /// Goal: names are sites' by their ends, of countries too; where a space was forgotten they are not.
    #[test]
    fn ends_of_sites() {
        let sites = "evil.com.au evil.co.za evil.dk evil.bet evil.casino evil.chat evil.gr evil.co.il evil.vn evil.by \
            evil.kz evil.page evil.rs evil.xn--p1ai 1.2.3.4/x 1.2.3.4:8080/x example.pф evil.com.my youtu.be x.com t.co \
            discord.gg evil.zz/x evil.zz:80 evil.zz?a=b http:\\\\evil.zz http:///evil.zz http://[::1]/ evil.it";
        for text in sites.split_whitespace() {
            assert_eq!(found(text).len(), 1, "{text}");
        }
        for text in [
            "e.g. this",
            "e.g",
            "i.e",
            "i.e.me too",
            "is.it",
            "ok.so",
            "no.in",
            "U.S.to",
            "v1.0.to",
            "10.30.am",
            "End.So",
            "etc.at",
            "1.2.3.4",
            "1.2.3.4: x",
            "1.2.3.400/x",
            "3.14.de",
            "in 2024.is",
            "so.me?",
            "node.js",
            "yes.no",
            "c:\\\\x",
            "https:// https://) ://",
        ] {
            assert_eq!(found(&text.to_lowercase()), [], "{text}");
        }
    }

    /// Goal: what goes to another host than the one that is allowed is found, however it is tied to it; a path is its own.
    #[test]
    fn nothing_hides_behind_an_allowed_host() {
        let allowed = ["youtube.com".to_owned()];
        let hosts = |text: &'static str| {
            let is_allowed = |host| is_allowed(text.get(host).expect("within"), &allowed);
            let found = links(text, is_allowed).into_iter();
            found
                .map(|link| text.get(link.host).expect("within"))
                .collect::<Vec<_>>()
        };
        for text in [
            "https://youtube.com:x@evil.com/",
            "https://youtube.com:443@evil.com",
            "https://youtube.com!@evil.com",
            "https://youtube.com&a@evil.com/p",
            "https://youtube.com%20@evil.com",
            "https://a@youtube.com@evil.com",
            "https://youtube.com\\@evil.com",
            "youtube.com@evil.com",
            "youtube.com:443@evil.com",
            "youtube.com:evil.com",
            "youtube.com,https://evil.com",
            "youtube.com,evil.com",
            "(youtube.com)(evil.com)",
            "youtube.com|evil.com",
            "youtube.com👍evil.com",
            "youtube.com_.evil.com",
            "youtube.com/x|evil.com",
            "youtube.com/x👍evil.com",
            "youtube.com/a https://evil.com",
            "https://youtube.com/redirect?q=https://evil.com",
            "https://youtube.com/redirect?q=https%3a%2f%2fevil.com%2fx&v=1",
            "youtube.com/https://youtube.com/,http://a@evil.com#",
            "https://youtube.com/x,https://evil.com",
        ] {
            assert_eq!(hosts(text), ["evil.com"], "{text}");
        }
        for (text, host) in [
            ("https://youtube.com,https://evil.com", "youtube.com,https"),
            ("https://youtube.com%2eevil.zz", "youtube.com%2eevil.zz"),
            ("https://youtube.com&.evil.zz", "youtube.com&.evil.zz"),
            ("https://youtube.com@[::1]/", "1"),
        ] {
            assert_eq!(hosts(text), [host], "{text}");
        }
        for text in [
            "https://youtube.com",
            "(https://youtube.com), https://youtube.com! youtube.com...",
            "https://me:secret@youtube.com:443/a@evil.com",
            "https://youtube.com:443/x?a=b.com#evil.com",
            "youtube.com/evil.com youtube.com/watch?v=1,2 youtube.com?evil.com",
            "https://youtube.com/redirect?q=https%3a%2f%2fwww.youtube.com%2fx&v=1",
            "https://www.youtube.com/@name",
        ] {
            assert!(hosts(text).is_empty(), "{text}");
        }
    }

    /// Goal: a host is allowed with all below it, in any case, and no other is that ends alike.
    #[test]
    fn allowed_hosts_are_whole_names() {
        let allowed = ["youtube.com".to_owned()];
        for (host, wanted) in [
            ("youtube.com", true),
            ("www.YouTube.com", true),
            ("notyoutube.com", false),
            ("youtube.com.evil.com", false),
            ("yоutube.com", false),
            ("com", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(host, &allowed), wanted, "{host}");
        }
    }
}
