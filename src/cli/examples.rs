//! An example of each command: for its help and its man page. Each line is one that the command line takes.

use clap::Command;

/// Commands, by the way to them, and their examples.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "dev",
        &[
            "uproar dev",
            "uproar dev --data-dir /tmp/chat --shards 1",
            "uproar dev --free-ports --ready-file ready.json --quotas open",
        ],
    ),
    (
        "import ivs",
        &[
            "uproar import ivs --config /etc/uproar/uproar.toml --dry-run",
            "uproar import ivs --config /etc/uproar/uproar.toml",
        ],
    ),
    (
        "wait",
        &[
            "uproar wait --ready-file ready.json | jq -r .messaging",
            "uproar wait --control http://127.0.0.1:8081 --timeout 5",
        ],
    ),
    ("serve", &["uproar serve --config /etc/uproar/uproar.toml"]),
    ("health", &["uproar health --json"]),
    (
        "drain",
        &["uproar drain --over 5m --wait", "uproar drain --cancel"],
    ),
    (
        "reload",
        &["uproar reload --config /etc/uproar/uproar.toml"],
    ),
    (
        "upgrade",
        &["uproar upgrade --binary /usr/local/bin/uproar"],
    ),
    (
        "top",
        &[
            "uproar top",
            "uproar top --once --json | jq .rates.delivered",
        ],
    ),
    ("stats", &["uproar stats --json | jq .totals.delivered"]),
    (
        "room list",
        &[
            "uproar room list",
            "uproar room list --by rate --count 20",
            "uproar room list --all --json | jq -r .arn",
        ],
    ),
    ("room show", &["uproar room show lobby --viewers 10"]),
    ("room create", &["uproar room create lobby --rate 100"]),
    (
        "room set",
        &["uproar room set lobby --rate 20 --length 200"],
    ),
    ("room delete", &["uproar room delete lobby"]),
    (
        "tap",
        &[
            "uproar tap lobby",
            "uproar tap lobby --json --count 100 | jq -r .Content",
        ],
    ),
    (
        "send",
        &[
            "uproar send lobby 'The show begins in five minutes'",
            "uproar send lobby Welcome --as host --attributes '{\"badge\":\"staff\"}'",
        ],
    ),
    (
        "event",
        &["uproar event lobby goal --attributes '{\"team\":\"home\"}'"],
    ),
    ("kick", &["uproar kick lobby bob --reason Spam"]),
    (
        "delete",
        &["uproar delete lobby hXuFBBkDpFwt --reason 'Against the rules'"],
    ),
    (
        "token create",
        &[
            "uproar token create --room arn:aws:ivschat:us-west-2:123456789012:room/lobby0000000 --user bob --capability SEND_MESSAGE",
        ],
    ),
    ("token check", &["uproar token check -"]),
    (
        "token rotate-key",
        &["uproar token rotate-key --config /etc/uproar/uproar.toml"],
    ),
    ("keys create", &["uproar keys create --role mint"]),
    (
        "keys list",
        &["uproar keys list --config /etc/uproar/uproar.toml"],
    ),
    ("keys revoke", &["uproar keys revoke AKIDEXAMPLE0000000000"]),
    (
        "store backup",
        &["uproar store backup rooms.backup --config /etc/uproar/uproar.toml"],
    ),
    (
        "store restore",
        &["uproar store restore rooms.backup --config /etc/uproar/uproar.toml"],
    ),
    (
        "cluster init",
        &["uproar cluster init --config /etc/uproar/uproar.toml"],
    ),
    (
        "cluster restore",
        &["uproar cluster restore --config /etc/uproar/uproar.toml"],
    ),
    (
        "cluster status",
        &["uproar cluster status --config /etc/uproar/uproar.toml --json"],
    ),
    (
        "cluster move",
        &["uproar cluster move 17 chat-2 --config /etc/uproar/uproar.toml"],
    ),
    (
        "cluster balance",
        &["uproar cluster balance --config /etc/uproar/uproar.toml"],
    ),
    ("bench", &["uproar bench fanout --help"]),
    (
        "doctor",
        &[
            "uproar doctor --connections 100000",
            "uproar doctor --write /tmp/settings",
        ],
    ),
    ("config sample", &["uproar config sample > uproar.toml"]),
    (
        "config check",
        &["uproar config check uproar.toml --strict"],
    ),
    (
        "completions",
        &[
            "uproar completions bash > /etc/bash_completion.d/uproar",
            "uproar completions zsh > ~/.zfunc/_uproar",
        ],
    ),
    ("man", &["uproar man /usr/local/share/man/man1"]),
];

/// Adds them to the commands that they are of.
pub(super) fn with_examples(command: Command) -> Command {
    let all = EXAMPLES.iter();
    all.fold(command, |command, (path, lines)| {
        let path: Vec<&str> = path.split(' ').collect();
        add(command, &path, lines)
    })
}

fn add(command: Command, path: &[&str], lines: &[&str]) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let own = command.get_after_help().map(ToString::to_string);
        let own = own.map_or_else(String::new, |own| format!("\n\n{own}"));
        let lines = lines.join("\n  ");
        return command.after_help(format!("Examples:\n  {lines}{own}"));
    };
    command.mut_subcommand(*first, |below| add(below, rest, lines))
}

#[cfg(test)]
mod tests {
    use super::super::described;
    use super::*;

    /// Goal: each command that people see has an example in its help, and each example is one that the command line
    /// takes. Method: a walk over all commands; the words of each line, as a shell makes them, are parsed.
    #[test]
    fn each_command_has_an_example_that_works() {
        let mut without = Vec::new();
        walk(&described(), "", &mut without);
        assert!(without.is_empty(), "no example: {without:?}");
        for (path, lines) in EXAMPLES {
            for line in *lines {
                let words = words(line);
                let own = format!("uproar {path}");
                assert!(words.join(" ").starts_with(&own), "{line} is not of {path}");
                match described().try_get_matches_from(&words) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(
                        error.kind(),
                        clap::error::ErrorKind::DisplayHelp,
                        "{line}: {error}"
                    ),
                }
            }
        }
    }

    fn walk(command: &Command, path: &str, without: &mut Vec<String>) {
        // Measurements say what they take by themselves, and run for minutes.
        let below = command
            .get_subcommands()
            .filter(|below| !below.is_hide_set());
        let below: Vec<_> = below.filter(|below| below.get_name() != "help").collect();
        if below.is_empty() || path == "bench" {
            let help = command.get_after_help().map(ToString::to_string);
            if !help.is_some_and(|help| help.contains("Examples:")) {
                without.push(path.to_owned());
            }
            return;
        }
        for command in below {
            walk(
                command,
                format!("{path} {}", command.get_name()).trim(),
                without,
            );
        }
    }

    /// The words of a line before a pipe or a file, with single quotes as a shell has them.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(['|', '>']).next().unwrap_or_default();
        let mut words = Vec::new();
        for (number, part) in line.split('\'').enumerate() {
            if number % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }
}
