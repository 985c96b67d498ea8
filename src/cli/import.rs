//! `uproar import`: rooms and logging configurations of another service, with their ARNs.

use std::fmt::Write;
use std::path::Path;

use clap::Subcommand;

use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::control::aws_client::Endpoint;
use crate::control::import::{Imported, Source, SourceSettings, Target, import};
use crate::control::store::{Store, path_in};
use crate::durable;
use crate::logging;
use crate::server;
use crate::supervisor::{Supervisor, runtime};
use uproar_proto::sigv4::sign::Credentials;

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Rooms, logging configurations and tags of Amazon IVS Chat; their ARNs stay. The server must not run
    ///
    /// The account's key comes from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; it needs ivschat:ListRooms,
    /// GetRoom and ListLoggingConfigurations. Calls keep to the service's rates: 5 rooms a second. What was stopped goes on
    /// where it was.
    Ivs(IvsCommand),
}

/// `uproar import ivs`.
#[derive(Debug, clap::Args)]
pub(super) struct IvsCommand {
    /// Read and tell, write nothing
    #[arg(long)]
    dry_run: bool,
    /// The service's address [default: that of the region at AWS]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// What stays behind in any case.
const NEVER_CARRIED: &str = "\
Not carried, because it cannot be:
  chat tokens and viewers   applications call CreateChatToken here from now on; viewers connect with those tokens
  messages                  neither service keeps them; chat logs stay where they were delivered
  IAM users and policies    `uproar keys create --operation NAME --room ARN` makes keys with rights; change endpoint and key in your applications
  raised quotas             quotas.* in the configuration; the defaults are the service's own
";

pub(super) fn run(command: &ImportCommand) -> Result<(), Failure> {
    let ImportCommand::Ivs(command) = command;
    command.run()
}

impl IvsCommand {
    fn run(&self) -> Result<(), Failure> {
        let placed = self.place.read()?;
        if placed.cluster.is_some() {
            let text = "the configuration names a cluster: import without its table [cluster], then run `uproar cluster init`";
            return Err(Failure::Usage(text.to_owned()));
        }
        let region = placed.account.region.clone();
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://ivschat.{region}.amazonaws.com"),
        };
        let source = Source::new(SourceSettings {
            endpoint: Endpoint::parse(&endpoint).ok_or_else(|| {
                Failure::Usage(format!(
                    "--endpoint {endpoint} must be http:// or https:// and a host, as in https://ivschat.{region}.amazonaws.com"
                ))
            })?,
            region,
            credentials: credentials()?,
            on_trouble: Box::new(|trouble| logging::print(&format!("uproar: {trouble}\n"))),
        });
        let source = source.map_err(|error| Failure::Run(error.to_string()))?;
        let data_dir = &placed.data_dir;
        let database = path_in(data_dir);
        let fail = |error: &dyn std::fmt::Display| {
            Failure::Run(format!("{}: {error}", database.display()))
        };
        let touches = !self.dry_run || database.exists();
        let _alone = touches.then(|| hold(data_dir)).transpose()?;
        let open = || Store::open(&database, &Supervisor::new(|| {}));
        let store = touches
            .then(open)
            .transpose()
            .map_err(|error| fail(&error))?;
        let target = Target::new(store, placed.account.clone(), self.dry_run);
        let mut target = target.map_err(|error| fail(&error))?;
        let runtime = runtime().map_err(|error| Failure::Run(error.to_string()))?;
        let progress = |seen| logging::print(&format!("uproar: {seen} rooms seen\n"));
        let imported = runtime.block_on(import(&source, &mut target, progress));
        let imported = imported.map_err(|error| Failure::Run(error.to_string()))?;
        print(&report(&imported, data_dir, self.dry_run))
    }
}

/// Makes the directory, and keeps servers out of it.
fn hold(data_dir: &Path) -> Result<impl Sized, Failure> {
    let made = durable::private_directory()
        .recursive(true)
        .create(data_dir);
    made.map_err(|error| Failure::Run(format!("{}: {error}", data_dir.display())))?;
    Ok(server::hold(data_dir)?)
}

fn credentials() -> Result<Credentials, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let needed = |name: &str| {
        variable(name).ok_or_else(|| {
            Failure::Usage(format!(
                "{name} is not set: `eval $(aws configure export-credentials --format env)` sets it from your profile"
            ))
        })
    };
    Ok(Credentials {
        key_id: needed("AWS_ACCESS_KEY_ID")?,
        secret: needed("AWS_SECRET_ACCESS_KEY")?.into(),
        session_token: variable("AWS_SESSION_TOKEN"),
    })
}

fn report(imported: &Imported, data_dir: &Path, dry_run: bool) -> String {
    let Imported {
        rooms_new,
        rooms_changed,
        rooms_same,
        logging,
        logging_same,
        handlers,
        notes,
    } = imported;
    let mut text = format!(
        "rooms: {rooms_new} new, {rooms_changed} changed, {rooms_same} the same\n\
         logging configurations: {logging} new or changed, {logging_same} the same\n"
    );
    for note in notes {
        let _infallible = writeln!(text, "note: {note}");
    }
    for handler in handlers {
        let _infallible = writeln!(
            text,
            "note: messages are reviewed by {handler}: name its URL in review.functions, or set review.lambda_access_key_id and \
             its secret so that Lambda is called; until then the room's fallbackResult decides"
        );
    }
    if logging + logging_same > 0 {
        text.push_str(
            "note: chat logs need an address and a key: set [logging] in the configuration, else records wait in the spool\n",
        );
    }
    text.push_str(NEVER_CARRIED);
    let _infallible = if dry_run {
        writeln!(text, "nothing is written: --dry-run")
    } else {
        writeln!(text, "written to {}; start the server", data_dir.display())
    };
    text
}
