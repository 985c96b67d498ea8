//! The command line.

mod admin;
mod banner;
mod bench;
mod cluster;
mod dev_cluster;
mod doctor;
mod drain;
mod examples;
mod failure;
mod import;
mod keys;
mod member;
mod output;
mod pages;
mod place;
#[cfg(test)]
mod reference;
mod room;
mod speak;
mod stats;
mod store;
mod tap;
mod token;
mod top;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::{EXIT_CODES, Failure};
use self::output::show;
use crate::config::{self, DevFlags, DevSettings, Flags, Mode, SAMPLE};
use crate::logging;
use crate::server::{self, ChosenIo, Ended};
use crate::shard::frames;

/// The version, commit, features and target of this build.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("UPROAR_COMMIT"),
    "), features ",
    env!("UPROAR_FEATURES"),
    ", ",
    env!("UPROAR_TARGET"),
);

/// Self-hosted chat server for crowds, wire-compatible with Amazon IVS Chat.
#[derive(Debug, Parser)]
#[command(
    version = VERSION,
    after_help = EXIT_CODES,
    before_help = "Examples:\n  uproar dev                                  chat on this machine in seconds\n  \
                   uproar serve --config /etc/uproar/uproar.toml      the real server\n  \
                   uproar token create --room ARN --user bob   a chat token, made offline"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run: everything made ready on loopback, for laptops and CI
    #[command(after_help = EXIT_CODES)]
    Dev {
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        dev: DevFlags,
        /// Three nodes and three NATS brokers with throw-away data, and a page to stop them on: http://127.0.0.1:8085/
        #[arg(long, conflicts_with_all = ["tls", "free_ports", "ready_file", "rooms", "seed", "frames", "allow_remote_with_public_key", "config", "messaging_listen", "control_listen", "data_dir", "shards", "compression", "take_over", "print_config"])]
        cluster: bool,
    },
    /// Run: the server; SIGTERM stops it
    #[command(after_help = EXIT_CODES)]
    Serve {
        #[command(flatten)]
        flags: Flags,
    },
    /// Tests: wait until a server is ready, and print what its ready file says; exit 1 if it is not in time
    #[command(after_help = EXIT_CODES)]
    Wait(wait::WaitCommand),
    /// Running server: its process, version, viewers and state; exit 1 if none answers
    #[command(after_help = EXIT_CODES)]
    Health(admin::HealthCommand),
    /// Running server: cut all viewers, so that they reconnect elsewhere, and stop
    #[command(after_help = EXIT_CODES)]
    Drain(drain::DrainCommand),
    /// Running server: read the configuration again
    #[command(after_help = EXIT_CODES)]
    Reload(admin::ReloadCommand),
    /// Running server: hand everything over to a new process
    #[command(after_help = EXIT_CODES)]
    Upgrade(admin::UpgradeCommand),
    /// Running server: viewers, rooms, rates and load at a glance, live
    Top(top::TopCommand),
    /// Running server: everything it counts, once
    Stats(stats::StatsCommand),
    /// Rooms of a running server: list, show, create, set, delete
    Room {
        #[command(subcommand)]
        command: room::RoomCommand,
    },
    /// Room: show what is said in it, live
    Tap(tap::TapCommand),
    /// Room: say something in it
    Send(speak::SendCommand),
    /// Room: send an event to its viewers
    Event(speak::EventCommand),
    /// Room: disconnect a user
    Kick(speak::KickCommand),
    /// Room: delete a message
    Delete(speak::DeleteCommand),
    /// Tokens: make them without asking the server
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Access keys of the API: create, list, revoke, also while the server runs
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Database: copy it while the server runs, put a copy back
    Store {
        #[command(subcommand)]
        command: store::StoreCommand,
    },
    /// Records of another service: bring them over, ARNs included
    Import {
        #[command(subcommand)]
        command: import::ImportCommand,
    },
    /// Cluster: make it, how its nodes and brokers do, where its rooms are
    Cluster {
        #[command(subcommand)]
        command: cluster::ClusterCommand,
    },
    /// Benchmark: fan-out and memory, measured from outside
    Bench(uproar_bench::Bench),
    /// Operating system: what must change here for this number of connections; exit 1 if anything must
    Doctor(doctor::Doctor),
    /// Shell: completions of this command line, for bash, zsh, fish, elvish and PowerShell
    Completions(pages::CompletionsCommand),
    /// Manual: a page for each command
    Man(pages::ManCommand),
    /// Which build this is, as --version
    #[command(hide = true)]
    Version,
    /// Start a program and end at once, so that the service manager adopts it
    #[command(name = server::LAUNCH, hide = true)]
    Launch {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Become a program that the kernel kills when the parent process ends
    #[command(name = server::TETHER, hide = true)]
    Tether {
        parent: u32,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Config: show every key, check a file
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a file with every key, its meaning and its default
    Sample,
    /// Check a file as `serve` would, environment included: exit 0 if it starts a server, 2 if not
    ///
    /// What `serve` starts with and only warns of, such as an expired certificate, is a warning here, too.
    Check {
        /// The file
        file: PathBuf,
        /// Exit 2 for warnings as well
        #[arg(long)]
        strict: bool,
    },
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let parsed = described().try_get_matches();
    let parsed = parsed.and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    let arguments = parsed.unwrap_or_else(|mut error| {
        // Clap would suggest to pass unknown arguments to the measured server, after `--`.
        if error.kind() == ErrorKind::UnknownArgument {
            error.remove(ContextKind::Suggested);
        }
        error.exit()
    });
    match run(arguments.command) {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            logging::print(&format!("uproar: {failure}\n"));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line with its examples.
fn described() -> clap::Command {
    examples::with_examples(Arguments::command())
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev {
            flags,
            cluster: true,
            ..
        } => dev_cluster::run(&flags),
        Command::Dev { flags, dev, .. } => serve_dev(flags, &dev),
        Command::Serve { flags } => serve(Mode::Serve, &flags, DevSettings::default()),
        Command::Wait(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Drain(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Upgrade(command) => command.run(),
        Command::Top(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Room { command } => command.run(),
        Command::Tap(command) => command.run(),
        Command::Send(command) => command.run(),
        Command::Event(command) => command.run(),
        Command::Kick(command) => command.run(),
        Command::Delete(command) => command.run(),
        Command::Completions(command) => command.run(described()),
        Command::Man(command) => command.run(described()),
        Command::Token { command } => token::run(&command),
        Command::Keys { command } => keys::run(&command),
        Command::Store { command } => store::run(&command),
        Command::Import { command } => import::run(&command),
        Command::Cluster { command } => cluster::run(&command),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Version => {
            show(&format!("uproar {VERSION}\n"));
            Ok(())
        }
        Command::Launch { program, arguments } => {
            show(&format!("{}\n", server::launch(&program, &arguments)));
            Ok(())
        }
        Command::Tether {
            parent,
            program,
            arguments,
        } => {
            let error = server::tether(parent, &program, &arguments);
            Err(Failure::Run(format!("{}: {error}", program.display())))
        }
        Command::Config {
            command: ConfigCommand::Sample,
        } => {
            show(SAMPLE);
            Ok(())
        }
        Command::Config {
            command: ConfigCommand::Check { file, strict },
        } => check(file, strict),
    }
}

fn check(file: PathBuf, strict: bool) -> Result<(), Failure> {
    let flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let settings = config::load(Mode::Serve, &flags, config::environment())?.settings;
    let warnings = server::check(&settings)?;
    if strict && !warnings.is_empty() {
        return Err(Failure::Usage(warnings.join("\n")));
    }
    for warning in warnings {
        logging::print(&format!("uproar: warning: {warning}\n"));
    }
    show("valid\n");
    Ok(())
}

fn serve_dev(mut flags: Flags, dev: &DevFlags) -> Result<(), Failure> {
    dev.check().map_err(Failure::Usage)?;
    dev.apply(&mut flags);
    if let Some(count) = dev.frames {
        frames::keep(usize::try_from(count).unwrap_or(usize::MAX));
    }
    serve(dev.mode(), &flags, dev.settings())
}

fn serve(mode: Mode, flags: &Flags, dev: DevSettings) -> Result<(), Failure> {
    // First, so that a signal from now on does not end the process by its default.
    let process = server::Process::start()?;
    let loaded = config::load(mode, flags, config::environment())?;
    if flags.print_config {
        show(&loaded.effective.to_string());
        return Ok(());
    }
    let (mut settings, running) = loaded.running(mode, flags.clone());
    settings.dev = dev;
    logging::start(&settings.log_filter, settings.log_json).map_err(Failure::Usage)?;
    let (connections, shards) = (settings.shard.connections_max, settings.shard.shard_count);
    let io = ChosenIo::of(settings.io, shards);
    if matches!(mode, Mode::Serve) {
        doctor::warn(connections, shards, io.kind);
    }
    let data_dir = settings.data_dir.clone();
    let ended = server::run(process, (settings, io), running, |ready| {
        if matches!(mode, Mode::Dev { .. }) {
            banner::print(ready, &data_dir);
        }
    })?;
    match ended {
        Ended::AtOnce { cut: cut @ 1.. } => Err(Failure::CutAtOnce(cut)),
        Ended::Drained | Ended::AtOnce { .. } => Ok(()),
    }
}
