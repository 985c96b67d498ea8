//! Slash commands under names that moderators know from elsewhere.

/// The value that switches a mode off.
pub(super) const OFF: &str = "off";

/// A slash command under a name that moderators know from elsewhere.
pub(super) struct Alias {
    word: &'static str,
    pub(super) verb: &'static str,
    pub(super) fixed: &'static [(&'static str, &'static str)],
    pub(super) arguments: &'static [&'static str],
}

const ALIASES: &[Alias] = &[
    mode("slow", &[("key", "slow")], &["value", "seconds"]),
    mode("slowoff", &[("key", "slow"), ("value", OFF)], &[]),
    mode(
        "emoteonly",
        &[("key", "emotes"), ("value", "only")],
        &["seconds"],
    ),
    mode("emoteonlyoff", &[("key", "emotes"), ("value", OFF)], &[]),
    mode("uniquechat", &[("key", "unique")], &["value", "seconds"]),
    mode("uniquechatoff", &[("key", "unique"), ("value", OFF)], &[]),
    // Words, or the id of a message.
    Alias {
        word: "pin",
        verb: "pin",
        fixed: &[],
        arguments: &["text"],
    },
    Alias {
        word: "ban",
        verb: "ban",
        fixed: &[],
        arguments: &["user", "reason"],
    },
    Alias {
        word: "shadow",
        verb: "shadow",
        fixed: &[],
        arguments: &["user", "reason"],
    },
    Alias {
        word: "untimeout",
        verb: "unban",
        fixed: &[],
        arguments: &["user"],
    },
];

const fn mode(
    word: &'static str,
    fixed: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
) -> Alias {
    Alias {
        word,
        verb: "set",
        fixed,
        arguments,
    }
}

impl Alias {
    /// The one of this word.
    pub(super) fn of(word: &str) -> Option<&'static Self> {
        ALIASES.iter().find(|alias| alias.word == word)
    }
}
