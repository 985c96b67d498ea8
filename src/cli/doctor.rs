//! `uproar doctor`: flags, table, JSON and files around [`crate::doctor`].

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output::print;
use crate::clock;
use crate::cluster::survey;
use crate::config::{self, Flags, IoChoice, Mode, dev_cluster_dir, dev_node_file};
use crate::doctor::facts::Facts;
use crate::doctor::host::Host;
use crate::doctor::{self, Finding, Target, Verdict, examine, files};
use crate::logging;
use crate::net::backend::Kind;
use crate::net::rings::Rings;
use crate::server;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Viewers at once that the machine should carry
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    connections: u64,
    /// Shards of the server [default: all processors it may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    shards: Option<u64>,
    /// A server that runs: its limits and control group, not those of this shell
    #[arg(long, value_name = "ID")]
    pid: Option<u32>,
    /// What moves viewers' bytes, as server.io says; auto: as a server here would decide
    #[arg(long, value_enum, default_value_t = IoChoice::Auto)]
    io: IoChoice,
    /// This machine opens the connections: a load generator, or a proxy in front
    #[arg(long)]
    load_generator: bool,
    /// The brokers of a cluster instead of this machine: versions, quorum, sync_interval, max_payload, disk, clocks
    #[arg(long, conflicts_with_all = ["shards", "pid", "load_generator", "write"])]
    cluster: bool,
    /// The node's configuration file, which names the brokers [default: that of `uproar dev --cluster`]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    config: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Write 90-uproar.conf (sysctl) and limits.conf (systemd) with what must change; replaces nothing
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
}

pub(super) fn run(arguments: &Doctor) -> Result<(), Failure> {
    if arguments.cluster {
        return of_cluster(arguments);
    }
    let process = match arguments.pid {
        Some(pid) if !Path::new(&format!("/proc/{pid}")).exists() => {
            return Err(Failure::Usage(format!(
                "--pid {pid}: there is no such process"
            )));
        }
        Some(pid) => pid.to_string(),
        None => "self".to_owned(),
    };
    let mut facts = Facts::read(&Host, &process);
    facts.ring =
        Some(try_ring().map_err(|cause| format!("{cause}. {}", server::ring_remedy(&cause))));
    let works = matches!(&facts.ring, Some(Ok(missing)) if missing.is_empty());
    let target = Target {
        connections: arguments.connections,
        shards: arguments.shards.or(facts.cpus).unwrap_or(1),
        io: match arguments.io {
            IoChoice::Epoll => Kind::Epoll,
            // Who opens connections needs neither.
            IoChoice::Auto if !works && !arguments.load_generator => Kind::Epoll,
            IoChoice::Auto | IoChoice::IoUring => Kind::IoUring,
        },
        opens: arguments.load_generator,
    };
    let findings = examine(&facts, &target);
    if arguments.json {
        let worst = doctor::worst(&findings).map(|finding| &finding.check);
        let report = json!({
            "connections": target.connections,
            "shards": target.shards,
            "io": target.io.name(),
            "worst": worst,
            "findings": findings,
        });
        print(&format!("{report}\n"))?;
    } else {
        print(&table(&findings, terminal_width()))?;
    }
    if let Some(directory) = &arguments.write {
        write(directory, &files::files(&findings, &target))?;
    }
    verdict(&findings, &target)
}

/// `uproar doctor --cluster`.
fn of_cluster(arguments: &Doctor) -> Result<(), Failure> {
    let (mode, file) = match &arguments.config {
        Some(file) => (Mode::Serve, file.clone()),
        None => (Mode::DEV, dev_node_file(&dev_cluster_dir(), 1)),
    };
    let flags = Flags {
        config: Some(file.clone()),
        ..Flags::default()
    };
    let loaded = config::load(mode, &flags, config::environment())?;
    let Some(cluster) = loaded.settings.cluster else {
        let file = file.display();
        return Err(Failure::Usage(format!(
            "{file} has no [cluster]: it is the configuration of a server alone"
        )));
    };
    let brokers = survey::brokers(&cluster.servers, survey::Depth::Monitoring);
    let now = clock::unix_now().timestamp();
    let findings = doctor::examine_brokers(&brokers, now);
    let worst = doctor::worst(&findings).map(|finding| finding.check.clone());
    if arguments.json {
        let report = json!({ "cluster": cluster.name, "worst": worst, "findings": findings });
        print(&format!("{report}\n"))?;
    } else {
        print(&table(&findings, terminal_width()))?;
    }
    match worst {
        None => Ok(()),
        Some(worst) => Err(Failure::Run(format!(
            "the brokers must be changed; first: {worst}"
        ))),
    }
}

/// At a server's start: one line if the machine allows fewer viewers than `quotas.connections`.
pub(super) fn warn(connections_max: usize, shard_count: usize, io: Kind) {
    let connections = u64::try_from(connections_max).unwrap_or(u64::MAX);
    let shards = u64::try_from(shard_count).unwrap_or(u64::MAX);
    if let Some(finding) = doctor::at_start(&Host, connections, shards, io) {
        tracing::warn!(
            check = finding.check,
            found = finding.found,
            needed = finding.needed,
            allows = finding.connections_max,
            "the operating system is set for fewer connections than quotas.connections; \
             see `uproar doctor --connections {connections}`"
        );
    }
}

/// Creates a ring as a shard does and enters it once; returns the missing operations.
fn try_ring() -> io::Result<Vec<&'static str>> {
    Rings::new()?.try_out()
}

/// Columns as wide as their widest cell; below each finding that is not ok, its reason.
fn table(findings: &[Finding], width: usize) -> String {
    let head = ["verdict", "check", "found", "needed"].map(str::to_owned);
    let cells = findings.iter().map(|finding| {
        let verdict = finding.verdict.name().to_owned();
        let Finding {
            check,
            found,
            needed,
            ..
        } = finding.clone();
        [verdict, check, found, needed]
    });
    let rows: Vec<_> = std::iter::once(head).chain(cells).collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [a, b, c] = [0, 1, 2].map(|column| widest(column).unwrap_or(0));
    let below = " ".repeat(a + 2);
    let mut out = String::new();
    for (index, [verdict, check, found, needed]) in rows.iter().enumerate() {
        let line = format!("{verdict:a$}  {check:b$}  {found:c$}  {needed}");
        if line.chars().count() <= width {
            out.push_str(&line);
            out.push('\n');
        } else {
            let _infallible = writeln!(out, "{verdict:a$}  {check}");
            out += &wrapped(&format!("{found}; needed: {needed}"), &below, width);
        }
        let finding = index.checked_sub(1).map(|index| &findings[index]);
        if let Some(finding) = finding.filter(|finding| finding.verdict != Verdict::Ok) {
            out += &wrapped(&finding.reason, &below, width);
        }
    }
    out
}

/// Words in lines of at most `width`, each after `indent`; a longer word has a line of its own.
fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > width {
            let _infallible = writeln!(out, "{indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    out + &format!("{indent}{line}\n")
}

/// The terminal's width; files and pipes get the narrowest usual one.
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns.max(40) }
}

fn write(directory: &Path, files: &[(&str, String)]) -> Result<(), Failure> {
    if !files.is_empty() {
        let fail = |cause| Failure::Usage(format!("--write {}: {cause}", directory.display()));
        fs::create_dir_all(directory).map_err(fail)?;
    }
    for (name, text) in files {
        let path = directory.join(name);
        let fail = |cause: io::Error| Failure::Usage(format!("{}: {cause}", path.display()));
        // An existing file may hold settings this machine relies on: never replace it.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        logging::print(&format!("wrote {}\n", path.display()));
    }
    Ok(())
}

/// Exit code 1 with the first thing to change, unless there is none.
fn verdict(findings: &[Finding], target: &Target) -> Result<(), Failure> {
    let Some(worst) = doctor::worst(findings) else {
        return Ok(());
    };
    let count = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Change)
        .count();
    let allows = worst.connections_max.map_or_else(String::new, |most| {
        format!(", which allows {most} connections as it is")
    });
    Err(Failure::Run(format!(
        "{count} to change for {} connections; first: {}{allows}",
        target.connections, worst.check
    )))
}
