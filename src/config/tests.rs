use toml::{Table, Value};

use super::schema::SCHEMA;
use super::*;
use crate::control::operation::Operation;
use crate::control::throttle::Rates;
use crate::shard::settings::ShardSettings;
use uproar_proto::base::rate::Rate;

const DEV: Mode = Mode::DEV;
const KEY: &str = "[[keys]]\nid = \"AKIDEXAMPLE000000001\"\nsecret = \"0123456789abcdef\"\n";

fn settle_text(
    mode: Mode,
    text: &str,
    environment: &[(&str, &str)],
    flags: &Flags,
) -> Result<(Settings, String), ConfigError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let file = Some((Path::new("uproar.toml"), text));
    let loaded = settle(mode, file, environment.iter().map(own), flags)?;
    Ok((loaded.settings, loaded.effective.to_string()))
}

fn settings(mode: Mode, text: &str) -> Settings {
    let (settings, _) = settle_text(mode, text, &[], &Flags::default()).expect("valid");
    settings
}

/// Goal: flag over environment over file over default, and each value has its source.
#[test]
fn the_highest_layer_wins_and_is_named() {
    let text = "[messaging]\nlisten = \"127.0.0.1:9000\"\n[server]\naccount = \"000000000001\"\n\
                shards = 5\n[tokens]\nlife_minutes = 30\n";
    let environment = [
        ("UPROAR_SERVER__SHARDS", "3"),
        ("UPROAR_SERVER__ACCOUNT", "000000000002"),
        (
            "UPROAR_MESSAGING__ORIGINS",
            "https://a.example, https://b.example",
        ),
        ("UPROAR_MESSAGING__COMPRESSION", "true"),
        ("UPROAR_BIN", "somebody else's"),
        ("HOME", "/"),
    ];
    let flags = Flags {
        shards: Some(2),
        ..Flags::default()
    };
    let (settings, printed) = settle_text(DEV, text, &environment, &flags).expect("valid");
    assert_eq!(settings.messaging_listen.port(), 9000);
    assert_eq!(settings.shard.shard_count, 2);
    assert_eq!(settings.account.id, "000000000002");
    assert!(settings.compression);
    assert_eq!(settings.origins, ["https://a.example", "https://b.example"]);
    for (key, value, source) in [
        ("shards", "2", "flag --shards"),
        (
            "account",
            "\"000000000002\"",
            "environment UPROAR_SERVER__ACCOUNT",
        ),
        ("life_minutes", "30", "file uproar.toml"),
        (
            "compression",
            "true",
            "environment UPROAR_MESSAGING__COMPRESSION",
        ),
        ("window_bytes", "4194304", "default"),
    ] {
        let found = printed.lines().any(|line| {
            line.starts_with(&format!("{key} = {value}")) && line.ends_with(&format!("# {source}"))
        });
        assert!(found, "{key} = {value} # {source} in\n{printed}");
    }
    printed.parse::<Table>().expect("what is printed is TOML");
}

#[test]
fn secrets_are_not_printed() {
    let (_, printed) =
        settle_text(Mode::Serve, KEY, &[], &Flags::default()).expect("one key is enough");
    assert!(printed.contains("AKIDEXAMPLE000000001"), "{printed}");
    assert!(!printed.contains("0123456789abcdef"), "{printed}");
}

/// Goal: the sample is the truth. Method: switch every key on; its values must be the defaults, but for
/// those that depend on the machine and those that have none.
#[test]
fn the_sample_has_every_key_and_its_default() {
    let own = |text: &str| {
        assert!(text.contains(access_keys::SAMPLE_SECRET));
        text.replace(access_keys::SAMPLE_SECRET, "0123456789abcdef")
    };
    // Not those of ACME beside the files of a certificate: a server has one of both.
    let mut whole = SCHEMA.clone();
    // Nor a file beside a secret.
    let keys = whole["keys"].as_array_mut().expect("a list");
    let one = keys[0].as_table_mut().expect("a key");
    one.remove("secret_file").expect("the sample has it");
    let whole = whole.to_string();
    let lines = whole.lines().filter(|line| !line.starts_with("acme_"));
    let whole = lines.collect::<Vec<_>>().join("\n");
    let _valid = settings(Mode::Serve, &own(&whole));
    let _valid = settings(Mode::Serve, &own(SAMPLE));
    let defaults = Table::try_from(defaults::defaults(Mode::Serve, Profile::Aws, None));
    for (section, values) in defaults.expect("strings and numbers") {
        let Value::Table(values) = values else {
            continue;
        };
        for (name, value) in values {
            let key = format!("{section}.{name}");
            let sample = names::kind(&key).unwrap_or_else(|| panic!("{key} is not in the sample"));
            if !["server.shards", "server.pin", "log.json"].contains(&&*key) {
                assert_eq!(*sample, value, "{key}");
            }
        }
    }
}

/// Goal: every key is in docs/configuration.md, and can be set by its variable.
#[test]
fn every_key_is_documented_and_has_a_variable() {
    let reference = include_str!("../../docs/configuration.md");
    let mut count = 0;
    for key in names::keys() {
        count += 1;
        assert!(
            reference.contains(&format!("`{key}`")),
            "docs/configuration.md lacks {key}"
        );
        let Some(value) = names::kind(&key) else {
            continue;
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(_) if key == "review.functions" => {
                "arn:aws:lambda:us-west-2:123456789012:function:check=http://a.example/".to_owned()
            }
            Value::Array(_) if key.ends_with("trusted_proxies") => "10.0.0.0/8,::1".to_owned(),
            Value::Array(_) if key == "quotas.operations" => "SendEvent=7".to_owned(),
            Value::Array(_) => "https://a.example".to_owned(),
            other => other.to_string(),
        };
        let name = format!("UPROAR_{}", key.replace('.', "__").to_ascii_uppercase());
        let outcome = settle_text(DEV, "", &[(&name, &text)], &Flags::default());
        let alone = [
            "tls.certificate",
            "tls.key",
            "tls.more_certificates",
            "tls.acme_domains",
            "tls.acme_contact",
            "tls.acme_root",
            "tls.acme_account",
            "cluster.name",
            "cluster.servers",
            "cluster.node",
            "cluster.credentials",
            "cluster.tls_",
            "cluster.secret_file",
            "logging.access",
            "logging.secret",
            "review.lambda_access",
            "review.lambda_secret",
            "review.lambda_session",
        ]
        .iter()
        .any(|part| key.starts_with(part))
            || key.starts_with("logging.") && key.ends_with("_endpoint");
        assert_eq!(
            outcome.is_ok(),
            !alone,
            "{name}={text}: {:?}",
            outcome.err()
        );
    }
    assert!(count > 20, "only {count} keys");
}

/// Goal: it is decided of every key what a reload does with it, and the reference says the same.
#[test]
fn every_key_is_decided_for_reloads() {
    let decided: Vec<_> = reloading::KEYS.iter().map(|(key, _)| *key).collect();
    let mut sorted = decided.clone();
    sorted.sort_unstable();
    let of_keys = |key: String| (!key.starts_with("keys.")).then_some(key);
    let mut known: Vec<_> = names::keys().filter_map(of_keys).collect();
    known.sort_unstable();
    assert_eq!(sorted, known, "src/config/reloading.rs decides every key");
    let reference = include_str!("../../docs/configuration.md");
    let rows = reference.lines().filter(|line| line.starts_with("| `"));
    let mut documented = Vec::new();
    for cells in rows.map(|row| row.split(" | ").collect::<Vec<_>>()) {
        let [keys, _default, _range, column, ..] = &cells[..] else {
            continue;
        };
        for key in keys.split('`').skip(1).step_by(2) {
            let expected = match reloading::of(key) {
                Reloading::Live => "live",
                Reloading::Upgrade => "upgrade",
                Reloading::Never => "never",
            };
            assert_eq!(*column, expected, "column \"reload\" of {key}");
            documented.push(key);
        }
    }
    assert_eq!(documented.len(), decided.len(), "each key has one row");
}

/// Goal: `open` lifts rates and nothing else, and a key that is set wins over the profile.
#[test]
fn open_lifts_rates_only() {
    let (aws, open) = (
        settings(DEV, ""),
        settings(DEV, "[quotas]\nprofile = \"open\""),
    );
    assert_eq!(aws.api_rates, Rates::aws());
    assert_eq!(open.api_rates, Rates::open());
    assert_eq!(aws.shard.connection_rate, Some(Rate::per_second(10)));
    let lifted = ShardSettings {
        connection_rate: None,
        room_rates: false,
        account_sends: None,
        account_moderations: None,
        ..aws.shard
    };
    assert_eq!(format!("{:?}", open.shard), format!("{lifted:?}"));
    let mixed = "[quotas]\nprofile = \"open\"\napi_rates = true\naccount_sends = 7\n\
                 operations = [\"CreateRoom=50\", \"GetRoom = 0\"]";
    let mixed = settings(DEV, mixed);
    let mut rates = Rates::aws();
    rates.set(Operation::CreateRoom, 50);
    rates.set(Operation::GetRoom, 0);
    assert_eq!(mixed.api_rates, rates);
    assert_eq!(mixed.shard.account_sends, Some(Rate::per_second(7)));
}

/// Goal: mistakes are named, with the key, its source and a suggestion.
#[test]
fn mistakes_are_named() {
    let cases: &[(Mode, &str, &[&str])] = &[
        (
            DEV,
            "[quotas]\noperations = [\"CreateRooms=1\"]",
            &[
                "quotas.operations",
                "CreateRooms=1",
                "CreateChatToken=20000",
                "Did you mean CreateRoom?",
                "UntagResource",
            ],
        ),
        (
            DEV,
            "[quotas]\noperations = [\"CreateChatTokn=2000\"]",
            &["Did you mean CreateChatToken?", "The operations are "],
        ),
        (
            DEV,
            "[server]\nshards = \"many\"",
            &["server.shards is \"many\"; it must be a whole number (file"],
        ),
        (
            DEV,
            "[server]\npin = 1",
            &["server.pin is 1; it must be true or false"],
        ),
        (
            DEV,
            "[server]\nregion = 1",
            &["server.region is 1; it must be a text in quotes"],
        ),
        (
            DEV,
            "[messaging]\norigins = [1]",
            &["messaging.origins is [1]; it must be a list of texts"],
        ),
        (
            DEV,
            "[quotas]\naccount_sends = 5000000000",
            &["quotas.account_sends is too large; it must be at most 4294967295"],
        ),
        (
            DEV,
            "[messaging]\nlisten = \"localhost:9000\"",
            &["messaging.listen is", "as in 127.0.0.1:9000", "uproar.toml"],
        ),
        (
            Mode::Serve,
            "[messaging]\nlisten = \"0.0.0.0:8081\"",
            &[
                "control.listen is 127.0.0.1:8081 (default)",
                "which is 0.0.0.0:8081",
            ],
        ),
        (
            Mode::Serve,
            "[[keys]]\nid = \"AKIDEXAMPLE000000001\"\nsecret = \"…\"",
            &["keys.secret is 1 character long"],
        ),
        (
            Mode::Serve,
            "[[keys]]\nid = \"AKIDEXAMPLE000000001\"\nsecret = \"ééééééééé\"",
            &["keys.secret is 9 characters long"],
        ),
        (
            DEV,
            "[quotas]\noperations = [\"CreateRoom=-1\"]",
            &["quotas.operations", "CreateRoom=-1"],
        ),
        (
            DEV,
            "[control]\nlisten = \"127.0.0.1:8080\"",
            &["control.listen", "127.0.0.1:8080", "messaging.listen"],
        ),
        (
            Mode::Serve,
            "[[keys]]\nid = \"AKIDTWICEAAAAAAAAAAA\"\nsecret = \"0123456789abcdef\"\n\
             [[keys]]\nid = \"AKIDTWICEAAAAAAAAAAA\"\nsecret = \"fedcba9876543210\"",
            &["keys.id", "AKIDTWICEAAAAAAAAAAA", "no other"],
        ),
        (
            DEV,
            "[messaging]\nlisten = \"0.0.0.0:8080\"",
            &[
                "messaging.listen",
                "0.0.0.0:8080",
                "uproar.toml",
                "loopback",
            ],
        ),
        (
            DEV,
            "[server]\nshards = 0",
            &["server.shards is 0", "1 to 1024"],
        ),
        (
            DEV,
            "[server]\nshards = \"two\"",
            &["server.shards", "uproar.toml"],
        ),
        (
            DEV,
            "[server]\nshards = -1",
            &["server.shards", "uproar.toml"],
        ),
        (
            DEV,
            "[server]\nshrads = 1",
            &["server.shrads", "mean server.shards?"],
        ),
        (DEV, "shards = 1", &["mean server.shards?"]),
        (
            DEV,
            "[mesaging]\nlisten = 1",
            &["[mesaging] is", "mean [messaging]?"],
        ),
        (
            DEV,
            "[server]\nwindow_bytes = 1",
            &["mean delivery.window_bytes?"],
        ),
        (DEV, "[zzz]", &["[zzz] is not known"]),
        (DEV, "[server]\nzzz = 1", &["server.zzz is not known"]),
        (DEV, "[server]\nshards = ", &["uproar.toml", "line 2"]),
        (
            DEV,
            "[delivery]\nslow_client = \"kill\"",
            &["delivery.slow_client", "skip", "disconnect"],
        ),
        (
            DEV,
            "[delivery]\nwindow_age_ms = 0",
            &["delivery.window_age_ms"],
        ),
        (DEV, "[tls]\nkey = \"k\"", &["tls.key", "tls.certificate"]),
        (
            DEV,
            "[tls]\nmore_certificates = [\"c=k\"]",
            &["tls.more_certificates requires tls.certificate"],
        ),
        (
            DEV,
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\nmore_certificates = [\"c\"]",
            &["tls.more_certificates", "CERTIFICATE=KEY"],
        ),
        (
            DEV,
            "[log]\nfilter = \"uproar=loud\"",
            &["log.filter", "loud"],
        ),
        (
            DEV,
            "[tokens]\nlife_minutes = 1",
            &["tokens.life_minutes is 1"],
        ),
        (DEV, "keys = 3", &["keys"]),
        (
            DEV,
            "[[keys]]\nid = \"a\"\nsecert = \"b\"",
            &["secert", "secret"],
        ),
        (Mode::Serve, "", &["keys is empty", "[[keys]]"]),
        (Mode::Serve, SAMPLE, &["keys.secret is that of the sample"]),
        (
            Mode::Serve,
            "[[keys]]\nid = \"AKIDUPROARDEV0000000\"\nsecret = \"0123456789abcdef\"",
            &["public"],
        ),
    ];
    for (mode, text, expected) in cases {
        let error = settle_text(*mode, text, &[], &Flags::default()).expect_err(text);
        let error = error.to_string();
        for part in *expected {
            assert!(error.contains(part), "{text}: {part:?} is not in: {error}");
        }
    }
    let variables = [
        ("UPROAR_QUOTAS__PROFILE", "opne", "open"),
        (
            "UPROAR_QUOTAS__PROFILE",
            "opne",
            "environment UPROAR_QUOTAS__PROFILE",
        ),
        ("UPROAR_SERVER__SHARDS", "two", "server.shards"),
        ("UPROAR_SERVER__SHRADS", "2", "mean UPROAR_SERVER__SHARDS?"),
        ("UPROAR_SERVER_SHARDS", "2", "mean UPROAR_SERVER__SHARDS?"),
        ("UPROAR_KEYS__0__ID", "x", "mean UPROAR_KEYS__ID?"),
        ("UPROAR_KEY_SECRET", "x", "mean UPROAR_KEYS__SECRET?"),
        ("UPROAR_LOG", "debug", "UPROAR_LOG__FILTER"),
        ("UPROAR_FOO", "1", "UPROAR_FOO is not known"),
        ("UPROAR_SERVER__PIN", "yes", "it must be true or false"),
        (
            "UPROAR_SERVER__DATA_DIR",
            "/a\u{fffd}",
            "server.data_dir is no UTF-8",
        ),
    ];
    for (name, value, expected) in variables {
        let outcome = settle_text(DEV, "", &[(name, value)], &Flags::default());
        let error = outcome.expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// Goal: a command that is given the server's file finds that server's directory, also where the file leaves it at the
/// default; a command that is given nothing finds that of `uproar dev`.
#[test]
fn a_command_with_a_file_means_the_server_of_that_file() {
    let scratch = crate::durable::faults::Scratch::new();
    let file = scratch.0.join("uproar.toml");
    std::fs::write(&file, "[server]\nshards = 1\n").expect("writes");
    let data_dir = |file: Option<&Path>| local(file, std::iter::empty()).expect("valid").data_dir;
    assert_eq!(
        data_dir(Some(&file)),
        Some(PathBuf::from("/var/lib/uproar"))
    );
    std::fs::write(&file, "[server]\ndata_dir = \"/srv/chat\"\n").expect("writes");
    assert_eq!(data_dir(Some(&file)), Some(PathBuf::from("/srv/chat")));
    assert_eq!(data_dir(None), None);
}
