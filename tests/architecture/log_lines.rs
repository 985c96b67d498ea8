//! Nobody outside can fill the log.

use std::fs;

use super::{all_sources, root};

/// Each call of a `tracing` macro in `text`, whole, with the macro's name.
fn log_lines(text: &str) -> Vec<(&str, &str)> {
    let calls = text.match_indices("tracing::");
    let calls = calls.map(|(at, prefix)| &text[at + prefix.len()..]);
    calls
        .filter_map(|rest| {
            let (level, call) = rest.split_once("!(")?;
            ["warn", "info", "error"].contains(&level).then_some(())?;
            Some((level, &call[..call.find(");").or_else(|| call.find(')'))?]))
        })
        .collect()
}

/// Goal: nobody outside can fill the log. A line above debug passes a `Limiter`, which shows in its
/// field `suppressed`, or stands in this list, because what causes it is bounded by itself.
/// If this fails for a new line: ask whether a stranger, a caller or a destination can cause it as often
/// as he likes. If so, put it behind `logging::local::admit` or `Core::admit_line`.
#[test]
fn lines_that_strangers_can_cause_are_limited() {
    const BOUNDED: &[(&str, &str)] = &[
        // Once a start, once a stop, once a thread's life.
        ("server", "starting"),
        ("server", "ready"),
        ("server", "stopped before"),
        ("server", "stopping:"),
        ("server/serve.rs", "no admin socket"),
        // Once a signal of the server's own user.
        ("server/admin/reply.rs", "order"),
        // Orders at the admin socket, which are the server's own user's: one line each, and a member comes in two.
        ("server/operator/join.rs", "a member"),
        ("control/operator.rs", "api"),
        // Once a removal of the file by somebody on the machine; once a stop.
        ("audit/writer.rs", "somebody has removed"),
        ("audit/writer.rs", "will not tell of them"),
        // Once a drain.
        ("server/drain", ""),
        ("supervisor/mod.rs", "must live"),
        ("server/listeners.rs", ""),
        ("server/notify.rs", ""),
        // A few lines for each upgrade that the server's own user asks for.
        ("server/upgrade", ""),
        // Once a change of its state.
        ("server/heartbeat.rs", "not written"),
        // Once each interval of the service manager's watchdog, while a thread hangs.
        ("server/vitals.rs", "no turn"),
        ("supervisor/keep.rs", "restarted"),
        ("server/preflight.rs", ""),
        ("server/io.rs", "io_uring cannot be used"),
        ("server/keys.rs", ""),
        ("shard/run.rs", "could not be pinned"),
        ("control/store/schema.rs", "was migrated"),
        ("control/archive", "the archive"),
        ("control/archive/sink.rs", "configuration"),
        // Once a look at a file of ours, or a change of its state; once a reload that the operator asked for.
        ("server/reload", "reloaded"),
        ("server/reload/outcome.rs", "configuration changed"),
        // Once a period of the keys; without randomness once a second, as at a start. Once an upgrade.
        ("server/tickets.rs", ""),
        // A few for each order, of which there is one a minute at most; the authority's part in them is bounded.
        ("server/acme", "TLS: "),
        ("server/tls/live.rs", "another certificate is ordered"),
        // Once a change of its standing, then once an hour.
        ("server/reload.rs", "TLS: {warning}"),
        ("control/access.rs", "access keys"),
        ("control/store/disk.rs", ""),
        ("shard/journal/record.rs", "token uses cannot be read"),
        // Of at most ten logging configurations, once a state or once a look.
        ("control/registry/shared.rs", "unfinished"),
        ("control/archive/ingest.rs", "configuration"),
        ("control/archive/deliver.rs", "configuration"),
        // One a second of each handler, of which there are as many as rooms' owners configured.
        ("control/review/mod.rs", "was not reviewed"),
        ("control/review/afterwards.rs", "was not reviewed"),
        // Authorized callers, at their own rate of 5 a second.
        ("control/put_room.rs", "did not reach its shard"),
        // Once a start; once a change of what the cluster's registry is to a node, or of the number of nodes; records and
        // keys of the cluster that cannot be read, of which authorized callers make few.
        ("server/registry.rs", "no node of a cluster"),
        ("control/state.rs", "shared by the nodes"),
        ("control/recall.rs", "what rooms remember"),
        ("control/registry/follow.rs", ""),
        ("control/registry/replica.rs", "not current"),
        ("control/copies.rs", "keys"),
        // Of brokers and nodes, not of strangers: once a change of a connection, which is made anew at a pace; of
        // hash slots four times a second at most.
        ("cluster/thread/", ""),
        ("cluster/kv.rs", "registry"),
        // Once: the server ends with it.
        ("server/orders.rs", "this node drains"),
        // The log itself, once each second.
        ("logging/start.rs", ""),
        ("cli", ""),
    ];
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in all_sources() {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let relative = relative.trim_start_matches("src/");
        let text = fs::read_to_string(&path).unwrap();
        for (level, call) in log_lines(&text) {
            seen += 1;
            let is_bounded = BOUNDED
                .iter()
                .any(|(place, words)| relative.starts_with(place) && call.contains(words));
            if !call.contains("suppressed") && !is_bounded {
                wrong.push(format!("{relative}: {level}!({call})"));
            }
        }
    }
    assert!(seen > 30, "the reader of log lines sees only {seen}");
    assert!(
        wrong.is_empty(),
        "not limited by kind and not in the list:\n{}",
        wrong.join("\n")
    );
}
