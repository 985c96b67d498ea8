//! `uproar dev --cluster`: three brokers and three nodes on loopback, with throw-away data, and a page to break them on.
//!
//! The command's own process is their parent and serves the page. All it starts ends with it, also if it is killed
//! (`tether`). It is no part of the cluster: what it shows of it, it asks the nodes for, as `uproar cluster status` does.

mod broker;
mod fault;
mod fetch;
mod layout;
mod member;
mod page;
mod ports;
mod status;
mod tether;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::Process;
use super::preflight;
use super::process::{Signalled, Signals};
use crate::config::{Profile, dev_cluster_dir};
use fetch::answers_ok;
use layout::Layout;
use member::{Kind, Members};
use status::Status;

pub(crate) use fault::DevClusterError;
pub(crate) use ports::{PAGE as DEV_CLUSTER_PAGE, all as dev_ports};
pub(crate) use tether::{TETHER, tether};

/// From the start until all nodes are ready: 5 s on two idle cores, the rest is for a machine with other work.
const READY_MAX: Duration = Duration::from_mins(2);
/// Pause between two looks at the processes.
const LOOK: Duration = Duration::from_millis(50);
/// How long nodes have to end in order before they are killed.
const END_MAX: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT. Calls `on_ready` once every node is ready.
///
/// # Errors
///
/// There is no broker program, a port is taken, or a process ends before all are ready.
pub(crate) fn run_dev_cluster(
    process: Process,
    quotas: Profile,
    on_ready: impl FnOnce(),
) -> Result<(), DevClusterError> {
    let Process {
        runtime,
        mut signals,
        inherited: _,
    } = process;
    let program = broker::find()?;
    ports::must_be_free()?;
    let path = dev_cluster_dir();
    let directory = preflight::data_directory(&path, true)?;
    directory.remove_at_end(&path);
    let layout = Layout::write(path, program, quotas)?;
    let members = Rc::new(RefCell::new(Members::of(&layout)));
    LocalSet::new().block_on(&runtime, async {
        let outcome = serve(&layout, &members, &mut signals, on_ready).await;
        end(&members).await;
        outcome
    })
}

/// Starts everything and serves the page, until a signal to stop.
async fn serve(
    layout: &Layout,
    members: &Rc<RefCell<Members>>,
    signals: &mut Signals,
    on_ready: impl FnOnce(),
) -> Result<(), DevClusterError> {
    let opening = async {
        let page = page::bind().await?;
        start(layout, members).await?;
        on_ready();
        let status = Rc::new(Status::default());
        tokio::select! {
            never = page::serve(page, Rc::clone(members), Rc::clone(&status)) => match never {},
            never = status.follow(layout.directory()) => match never {},
        }
    };
    tokio::select! {
        failed = opening => failed,
        () = stopped(signals) => Ok(()),
    }
}

/// Returns at a signal to stop; there is nothing to reload or upgrade here.
async fn stopped(signals: &mut Signals) {
    while signals.next().await != Signalled::Stop {}
}

/// Starts the brokers, makes the cluster in them, starts the nodes; returns when each is ready.
async fn start(layout: &Layout, members: &RefCell<Members>) -> Result<(), DevClusterError> {
    let deadline = Instant::now() + READY_MAX;
    members.borrow_mut().start_all(Kind::Broker)?;
    let all = || ports::all().map(|ports| (ports.monitoring, "/healthz"));
    until(members, deadline, all).await?;
    layout.init().await?;
    members.borrow_mut().start_all(Kind::Node)?;
    let all = || ports::all().map(|ports| (ports.control, "/readyz"));
    until(members, deadline, all).await
}

/// Waits until each of these pages answers 200.
async fn until<Pages>(
    members: &RefCell<Members>,
    deadline: Instant,
    pages: impl Fn() -> Pages,
) -> Result<(), DevClusterError>
where
    Pages: Iterator<Item = (u16, &'static str)>,
{
    for (port, target) in pages() {
        while !answers_ok(port, target).await {
            members.borrow_mut().all_must_live()?;
            if Instant::now() > deadline {
                return Err(DevClusterError::Late { port, target });
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Ends nodes in order, then whatever is left at once: the data is thrown away.
async fn end(members: &RefCell<Members>) {
    members.borrow_mut().terminate_nodes();
    let deadline = Instant::now() + END_MAX;
    while members.borrow_mut().has_nodes() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    members.borrow_mut().kill_all();
}
