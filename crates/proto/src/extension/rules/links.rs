//! Links of a message: addresses with `://`, those that begin with `www.`, and names that end as sites do.

use std::ops::Range;

/// Where an address is in a folded text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// All of it.
    pub(super) whole: Range<usize>,
    /// The name of its host.
    pub(super) host: Range<usize>,
}

/// Ends of names that are sites' without more: with a path, any is.
const ENDS: &[&str] = &[
    "ai", "app", "art", "at", "be", "biz", "blog", "br", "bz", "ca", "cc", "ch", "click", "club",
    "cn", "co", "com", "cz", "de", "dev", "edu", "es", "eu", "fi", "fm", "fr", "fun", "game",
    "games", "gg", "gl", "gov", "gs", "hk", "hu", "icu", "ie", "in", "info", "io", "it", "jp",
    "kr", "life", "link", "live", "lol", "ly", "me", "mobi", "moe", "mx", "net", "news", "nl",
    "no", "online", "org", "pl", "pro", "pt", "pw", "ro", "ru", "se", "sh", "shop", "site", "sk",
    "space", "store", "stream", "su", "tech", "tk", "to", "today", "top", "tr", "tv", "ua", "uk",
    "us", "vip", "website", "win", "work", "ws", "wtf", "xxx", "xyz", "zip",
];

/// The links of a folded text, in order.
pub(super) fn links(text: &str) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut rest = 0;
    // Where a scheme before the next name began.
    let mut scheme: Option<usize> = None;
    while let Some(found) = text.get(rest..).and_then(|rest| rest.find(is_of_host)) {
        let from = rest + found;
        let to = text
            .get(from..)
            .and_then(|rest| rest.find(|c| !is_of_host(c)));
        let to = to.map_or(text.len(), |length| from + length);
        let behind = text.get(to..).unwrap_or_default();
        rest = to;
        if behind.starts_with("://") {
            scheme = Some(from);
            continue;
        }
        if behind.starts_with('@') && scheme.is_some() {
            // A name and password before the host.
            continue;
        }
        let host = trimmed(text, from..to);
        let begins = scheme.take();
        let name = text.get(host.clone()).unwrap_or_default();
        let has_path = behind.starts_with(['/', ':', '?', '#']);
        if begins.is_some() || is_site(name, has_path) {
            let end = text
                .get(host.start..)
                .and_then(|rest| rest.find(char::is_whitespace));
            let end = end.map_or(text.len(), |length| host.start + length);
            let whole = begins.unwrap_or(host.start)..end;
            rest = end;
            links.push(Link { whole, host });
        }
    }
    links
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

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let name = text.get(range.clone()).unwrap_or_default();
    let start = name.trim_start_matches(['.', '-']);
    let from = range.end - start.len();
    from..from + start.trim_end_matches(['.', '-']).len()
}

fn is_site(name: &str, has_path: bool) -> bool {
    let Some((before, end)) = name.rsplit_once('.') else {
        return false;
    };
    if before.is_empty() || before.ends_with('.') {
        return false;
    }
    let is_word = end.len() >= 2 && end.chars().all(char::is_alphabetic);
    name.starts_with("www.") || ENDS.contains(&end) || (has_path && is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, &str)> {
        let links = links(text).into_iter();
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
            ("", &[]),
            (".", &[]),
        ] {
            assert_eq!(found(text), wanted, "{text}");
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
