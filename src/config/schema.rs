//! The known keys and their types, read out of the sample file.

use std::sync::LazyLock;

use toml::Table;

/// Every key, with its default and meaning: `uproar config sample`. Also the list of known keys.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The sample with every key enabled: the known keys and their types.
pub(super) static SCHEMA: LazyLock<Table> = LazyLock::new(|| {
    let is_key = |line: &str| {
        line.split_once(" = ").is_some_and(|(name, _)| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
    };
    let lines = SAMPLE.lines().map(|line| {
        let bare = line.strip_prefix("# ").filter(|rest| is_key(rest));
        bare.unwrap_or(line)
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    text.parse()
        .expect("the sample is TOML, with or without its comments")
});
