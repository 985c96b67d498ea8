//! `[tls] acme_…`: certificates that the server orders itself (ACME, RFC 8555).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::check::Check;
use super::error::ConfigError;
use super::mode::Mode;
use super::raw::{AcmeChallenge, Tls};
use uproar_proto::base::limits::ACME_DOMAINS_MAX;

/// Who issues the certificate of the listeners, and for which names.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// The names, in lower case and in the file's order.
    pub domains: Vec<String>,
    /// URL of the authority's directory.
    pub directory: String,
    /// Whom the authority may write to, as in `mailto:ops@example.org`.
    pub contact: Vec<String>,
    /// How the authority convinces itself.
    pub challenge: AcmeChallenge,
    /// Where HTTP-01 is answered.
    pub http_listen: SocketAddr,
    /// PEM file with who signed the authority's own certificate; `None`: the system's roots.
    pub root: Option<PathBuf>,
    /// The account that is known to the authority already, if it asks for one.
    pub account: Option<AcmeAccount>,
    /// Where the account's key and the certificate are kept.
    pub state_dir: PathBuf,
}

/// An external account binding (RFC 8555, 7.3.4).
#[derive(Clone)]
pub struct AcmeAccount {
    /// Its name at the authority.
    pub id: String,
    /// The key of its HMAC.
    pub secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for AcmeAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AcmeAccount({})", self.id)
    }
}

impl AcmeSettings {
    /// The file with chain and key, in one: so that no kill leaves halves of two certificates.
    pub fn certificate(&self) -> PathBuf {
        self.state_dir.join("certificate.pem")
    }
}

/// The settings of orders; `None` if no names are given.
pub(super) fn resolve(
    given: &Tls,
    (mode, is_clustered): (Mode, bool),
    data_dir: &Path,
    check: &Check<'_>,
) -> Result<Option<AcmeSettings>, ConfigError> {
    needs_domains(given, check)?;
    let Some(domains) = &given.acme_domains else {
        return Ok(None);
    };
    let shown = domains.join(", ");
    let domains = named(domains, &shown, check)?;
    stands_alone(given, (mode, is_clustered), &shown, check)?;
    let directory = &given.acme_directory;
    check.holds(
        is_directory(directory),
        "tls.acme_directory",
        directory,
        "an address that begins with https://, without user and password, of at most 1,024 characters",
    )?;
    let contact = given.acme_contact.clone().unwrap_or_default();
    for address in &contact {
        let is_mail = (address.strip_prefix("mailto:")).is_some_and(|mail| mail.contains('@'));
        let must = "addresses that begin with mailto:";
        check.holds(is_mail, "tls.acme_contact", address, must)?;
    }
    Ok(Some(AcmeSettings {
        domains,
        directory: directory.clone(),
        contact,
        challenge: given.acme_challenge,
        http_listen: given.acme_http_listen,
        root: given.acme_root.clone(),
        account: account(given, check)?,
        state_dir: data_dir.join("acme"),
    }))
}

/// Refuses orders beside what they do not go with.
fn stands_alone(
    given: &Tls,
    (mode, is_clustered): (Mode, bool),
    shown: &str,
    check: &Check<'_>,
) -> Result<(), ConfigError> {
    let is_alone = given.certificate.is_none() && !matches!(mode, Mode::Dev { .. });
    let refusals = [
        (
            is_alone,
            "left out: tls.certificate and tls.key name a certificate, and `uproar dev` makes its own; \
             one server has one of them",
        ),
        (
            given.more_certificates.is_empty(),
            "left out: tls.more_certificates names further certificates, and whoever orders has one for all names; \
             list the hosts in acme_domains, or give the server files for all of them",
        ),
        (
            !is_clustered,
            "left out on a node of a cluster: the authority's question would reach any of its nodes; order outside, \
             and give each node the files",
        ),
        (
            given.acme_terms_agreed,
            "left out, or have acme_terms_agreed = true beside it: the authority wants you to agree to its terms of service",
        ),
    ];
    for (holds, must) in refusals {
        check.holds(holds, "tls.acme_domains", shown, must)?;
    }
    Ok(())
}

/// Refuses what means nothing without names.
fn needs_domains(given: &Tls, check: &Check<'_>) -> Result<(), ConfigError> {
    let named = given.acme_domains.is_some();
    for (key, has_value) in [
        ("tls.acme_contact", given.acme_contact.is_some()),
        ("tls.acme_root", given.acme_root.is_some()),
        ("tls.acme_account_id", given.acme_account_id.is_some()),
        (
            "tls.acme_account_secret",
            given.acme_account_secret.is_some(),
        ),
    ] {
        check.requires(key, has_value, "tls.acme_domains", named)?;
    }
    Ok(())
}

fn named(domains: &[String], shown: &str, check: &Check<'_>) -> Result<Vec<String>, ConfigError> {
    check.holds(
        (1..=ACME_DOMAINS_MAX).contains(&domains.len()),
        "tls.acme_domains",
        shown,
        format!("1 to {ACME_DOMAINS_MAX} names"),
    )?;
    let mut names: Vec<String> = Vec::new();
    for domain in domains {
        let name = domain.to_ascii_lowercase();
        check.holds(
            is_domain(&name),
            "tls.acme_domains",
            domain,
            "names of hosts in public DNS, as in chat.example.org: no addresses, no ports, no wildcards (they need \
             a challenge by DNS), letters beyond ASCII as xn--…",
        )?;
        let must = "each name once";
        check.holds(!names.contains(&name), "tls.acme_domains", domain, must)?;
        names.push(name);
    }
    Ok(names)
}

/// A host's name of two labels or more, in lower case.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = (name.rsplit('.').next()).is_some_and(|last| last.parse::<u64>().is_ok());
    name.len() <= 253 && name.contains('.') && !last_is_number && name.split('.').all(is_label)
}

fn is_directory(url: &str) -> bool {
    let uri = url.parse::<hyper::Uri>();
    url.len() <= 1024
        && uri.is_ok_and(|uri| {
            let authority = uri.authority().map(hyper::http::uri::Authority::as_str);
            uri.scheme_str() == Some("https") && authority.is_some_and(|host| !host.contains('@'))
        })
}

fn account(given: &Tls, check: &Check<'_>) -> Result<Option<AcmeAccount>, ConfigError> {
    let (id, secret) = (&given.acme_account_id, &given.acme_account_secret);
    let (has_id, has_secret) = (id.is_some(), secret.is_some());
    check.requires(
        "tls.acme_account_id",
        has_id,
        "tls.acme_account_secret",
        has_secret,
    )?;
    check.requires(
        "tls.acme_account_secret",
        has_secret,
        "tls.acme_account_id",
        has_id,
    )?;
    let Some((id, secret)) = id.as_ref().zip(secret.as_ref()) else {
        return Ok(None);
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(secret.trim_end_matches('='));
    check.holds(
        bytes.as_ref().is_ok_and(|bytes| bytes.len() >= 16),
        "tls.acme_account_secret",
        "not shown",
        "the key that the authority gave you, in base64url, of at least 16 bytes",
    )?;
    Ok(bytes.ok().map(|secret| AcmeAccount {
        id: id.clone(),
        secret: secret.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Settings, settle};
    use super::*;

    const WHOLE: &str =
        "acme_domains = [\"Chat.example.org\", \"b.example\"]\nacme_terms_agreed = true\n";

    fn load(mode: Mode, section: &str, more: &str) -> Result<Settings, String> {
        let text = format!(
            "[tls]\n{section}\n{more}\n[[keys]]\nid = \"AKIDEXAMPLE000000001\"\nsecret = \"0123456789abcdef\"\n"
        );
        let file = Some((Path::new("uproar.toml"), &*text));
        settle(mode, file, std::iter::empty(), &Flags::default())
            .map(|loaded| loaded.settings)
            .map_err(|error| error.to_string())
    }

    /// Goal: names alone make orders of them at Let's Encrypt, kept in the data directory in one file.
    #[test]
    fn names_make_orders() {
        assert!(load(Mode::Serve, "", "").expect("valid").acme.is_none());
        let settings = load(Mode::Serve, WHOLE, "").expect("valid");
        let acme = settings.acme.expect("orders");
        assert_eq!(acme.domains, ["chat.example.org", "b.example"]);
        assert!(acme.directory.contains("letsencrypt.org"));
        assert_eq!(acme.challenge, AcmeChallenge::TlsAlpn01);
        let files = settings.tls.expect("files");
        assert_eq!(files.certificate, files.key);
        assert!(files.key.starts_with(settings.data_dir.join("acme")));
    }

    /// Goal: mistakes are named, with the key, and the secret is not printed.
    #[test]
    fn mistakes_are_named() {
        let name = |name: &str| WHOLE.replace("b.example", name);
        let cluster = "[cluster]\nname = \"a\"\nservers = [\"nats://127.0.0.1:4222\"]\nsecret_file = \"/k\"\n";
        for (mode, text, more, expected) in [
            (Mode::Serve, name("*.example.org"), "", "wildcards"),
            (Mode::Serve, name("127.0.0.1"), "", "no addresses"),
            (
                Mode::Serve,
                name("localhost"),
                "",
                "acme_domains is localhost",
            ),
            (Mode::Serve, name("a.example:443"), "", "no ports"),
            (Mode::Serve, name("-a.example"), "", "acme_domains is -a"),
            (Mode::Serve, name("chat.example.ORG"), "", "each name once"),
            (Mode::Serve, WHOLE.replace("true", "false"), "", "terms"),
            (
                Mode::Serve,
                "acme_domains = []\nacme_terms_agreed = true".to_owned(),
                "",
                "1 to 100 names",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}certificate = \"/c\"\nkey = \"/k\""),
                "",
                "tls.certificate and tls.key name a certificate",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}more_certificates = [\"/c=/k\"]"),
                "",
                "list the hosts in acme_domains",
            ),
            (Mode::DEV, WHOLE.to_owned(), "", "uproar dev"),
            (Mode::Serve, WHOLE.to_owned(), cluster, "node of a cluster"),
            (
                Mode::Serve,
                format!("{WHOLE}acme_directory = \"http://a.example/\""),
                "",
                "begins with https://",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_directory = \"https://u:p@a.example/\""),
                "",
                "without user",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_contact = [\"ops\"]"),
                "",
                "mailto:",
            ),
            (
                Mode::Serve,
                "acme_root = \"/r\"".to_owned(),
                "",
                "requires tls.acme_domains",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_account_id = \"k\""),
                "",
                "requires tls.acme_account_secret",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_account_id = \"k\"\nacme_account_secret = \"top-most!\""),
                "",
                "base64url",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_http_listen = \"80\""),
                "",
                "acme_http_listen",
            ),
            (
                Mode::Serve,
                format!("{WHOLE}acme_challenge = \"dns-01\""),
                "",
                "dns-01",
            ),
        ] {
            let error = load(mode, &text, more).expect_err(&text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("top-most"), "{error}");
        }
    }
}
