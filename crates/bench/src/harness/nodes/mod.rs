//! Nodes of a cluster and their brokers, or one node alone: processes of this program on free ports, with throw-away data.
//!
//! Only what was started here is ended. No process is pinned: six of them share the machine, as the kernel likes.

mod broker;
mod busy;
mod homes;
mod process;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use uproar_proto::base::id::RoomId;

use super::child::free_port;
use super::error::{BenchError, Failure};
use super::program::Program;
use super::server::{Attach, ServerUnderTest};
use super::{api, machine};
pub(crate) use broker::find as find_nats_server;
use broker::{Ports, quoted};
pub(crate) use busy::Busy;
use homes::{HomesBy, name, number, run_cluster};
use process::Process;

/// Longest wait for all brokers and nodes to become ready.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Brokers of a cluster.
const BROKERS: usize = 3;
/// The file that seals what nodes share.
const SECRET: &str = "cluster.key";

/// What runs.
#[derive(Debug)]
pub(crate) struct Nodes {
    program: Program,
    members: Vec<Node>,
    brokers: Vec<Process>,
    /// Dropped last: processes write to it.
    directory: Scratch,
}

/// One node, and where it is.
#[derive(Debug)]
struct Node {
    messaging: SocketAddr,
    control: SocketAddr,
    data_dir: PathBuf,
    /// Its configuration.
    file: PathBuf,
    process: Process,
}

/// A directory that is removed at the end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

impl Nodes {
    /// Starts one node without brokers, and waits until it is ready.
    pub(crate) fn start_alone(program: &Program) -> Result<Self, Failure> {
        Ok(Self::start_all(program, 1, None)?)
    }

    /// Starts three brokers of this program and `count` nodes, and waits until all are ready.
    pub(crate) fn start_cluster(
        program: &Program,
        count: usize,
        nats: &Path,
    ) -> Result<Self, Failure> {
        Ok(Self::start_all(program, count, Some(nats))?)
    }

    fn start_all(program: &Program, count: usize, nats: Option<&Path>) -> Result<Self, BenchError> {
        let id = (std::process::id(), fastrand::u32(..));
        let name = format!("uproar-bench-{}-{:08x}", id.0, id.1);
        let directory = Scratch(std::env::temp_dir().join(name));
        fs::create_dir_all(&directory.0)?;
        let mut all = Self {
            program: program.clone(),
            members: Vec::new(),
            brokers: Vec::new(),
            directory,
        };
        let ports = nats.map_or_else(|| Ok(Vec::new()), |nats| all.start_brokers(nats))?;
        let files = (0..count).map(|number| all.write_node(number, &ports));
        let files: Vec<_> = files.collect::<Result<_, _>>()?;
        if !ports.is_empty() {
            all.await_brokers(&ports)?;
            let arguments = ["--config".as_ref(), files[0].file.as_os_str()];
            run_cluster(&program.executable, "init", &arguments)?;
        }
        for (number, file) in files.into_iter().enumerate() {
            let node = file.start(program, number, &all.directory.0)?;
            all.members.push(node);
        }
        (0..count).try_for_each(|node| all.await_ready(node))?;
        Ok(all)
    }

    fn start_brokers(&mut self, nats: &Path) -> Result<Vec<Ports>, BenchError> {
        let path = self.directory.0.clone();
        let ports = || -> Result<Ports, BenchError> {
            Ok(Ports {
                clients: free_port()?,
                routes: free_port()?,
                monitoring: free_port()?,
            })
        };
        let ports = (0..BROKERS)
            .map(|_| ports())
            .collect::<Result<Vec<_>, _>>()?;
        for number in 0..ports.len() {
            let file = path.join(format!("broker-{number}.conf"));
            let store = path.join(format!("broker-{number}"));
            fs::write(&file, broker::configuration(number, &ports, &store))?;
            let programs = (self.program.executable.as_path(), nats);
            let arguments = vec!["--config".into(), file.into()];
            let process = Process::start(format!("broker-{number}"), programs, arguments, &path)?;
            self.brokers.push(process);
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::from)?;
        write_private(&path.join(SECRET), &secret)?;
        Ok(ports)
    }

    fn write_node(&self, number: usize, ports: &[Ports]) -> Result<NodeFile, BenchError> {
        let path = &self.directory.0;
        let node = NodeFile {
            messaging: free_port()?,
            control: free_port()?,
            data_dir: path.join(format!("node-{number}")),
            file: path.join(format!("node-{number}.toml")),
        };
        let servers: Vec<_> = ports
            .iter()
            .map(|ports| format!("\"nats://{}\"", ports.clients))
            .collect();
        let cluster = if ports.is_empty() {
            String::new()
        } else {
            format!(
                "[cluster]\nname = \"bench\"\nservers = [{}]\nnode = \"{}\"\nsecret_file = {}\n",
                servers.join(", "),
                name(number),
                quoted(&path.join(SECRET))
            )
        };
        fs::create_dir_all(&node.data_dir)?;
        let text = format!(
            "[server]\ndata_dir = {}\nshards = 1\npin = false\n\
             [messaging]\nlisten = \"{}\"\n\
             [control]\nlisten = \"{}\"\n\
             [quotas]\nprofile = \"open\"\nconnections = 1000000\n{cluster}",
            quoted(&node.data_dir),
            node.messaging,
            node.control,
        );
        fs::write(&node.file, text)?;
        Ok(node)
    }

    /// Waits until every broker knows who leads them all.
    fn await_brokers(&mut self, ports: &[Ports]) -> Result<(), BenchError> {
        let begun = Instant::now();
        let mut waiting: Vec<_> = ports.iter().map(|ports| ports.monitoring).collect();
        while let Some(broker) = waiting.last() {
            let page = api::get(*broker, "/jsz");
            let is_led = page.is_ok_and(|page| {
                page.contains("\"leader\": \"broker-")
                    && page.contains(&format!("\"cluster_size\": {}", ports.len()))
            });
            if is_led {
                waiting.pop();
                continue;
            }
            let late = begun.elapsed() > PATIENCE;
            for broker in &mut self.brokers {
                if let Some(ended) = broker.ended()? {
                    return Err(ended);
                }
                if late {
                    return Err(broker.fault("knows no leader of the brokers"));
                }
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until `/readyz` of a node is 200.
    pub(crate) fn await_ready(&mut self, node: usize) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !is_ready(self.members[node].control) {
            if let Some(ended) = self.members[node].process.ended()? {
                return Err(ended);
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.members[node].process.fault("did not become ready"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The control listener of a node.
    pub(crate) fn control(&self, node: usize) -> SocketAddr {
        self.members[node].control
    }

    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Memory of a node's process, in bytes, files aside.
    pub(crate) fn memory(&self, node: usize) -> u64 {
        let pid = self.members[node].process.pid();
        pid.map_or(0, |pid| machine::Usage::of(pid).memory)
    }

    /// Kills a node as a crash does.
    pub(crate) fn kill(&mut self, node: usize) -> Result<(), BenchError> {
        Ok(self.members[node].process.kill()?)
    }

    /// Kills the node or broker of this name.
    pub(crate) fn kill_named(&mut self, name: &str) -> Result<(), BenchError> {
        Ok(self.named(name)?.kill()?)
    }

    /// Starts the killed node or broker of this name; a node is waited for until it is ready.
    pub(crate) fn start_named(&mut self, name: &str) -> Result<(), BenchError> {
        self.named(name)?.restart()?;
        number(name).map_or(Ok(()), |node| self.await_ready(node))
    }

    fn named(&mut self, name: &str) -> Result<&mut Process, BenchError> {
        let nodes = self.members.iter_mut().map(|node| &mut node.process);
        let mut all = nodes.chain(&mut self.brokers);
        let found = all.find(|process| process.name() == name);
        found.ok_or_else(|| BenchError::Server(format!("no node or broker is named {name}")))
    }

    /// Names, addresses and process ids of all.
    pub(crate) fn place(&self) -> Value {
        let node = |node: &Node| {
            json!({
                "name": node.process.name(),
                "messaging": node.messaging,
                "control": node.control,
                "data_dir": node.data_dir,
                "pid": node.process.pid(),
            })
        };
        let broker = |broker: &Process| json!({"name": broker.name(), "pid": broker.pid()});
        json!({
            "nodes": self.members.iter().map(node).collect::<Vec<_>>(),
            "brokers": self.brokers.iter().map(broker).collect::<Vec<_>>(),
        })
    }

    /// A room's ARN.
    pub(crate) fn arn(&self, room: RoomId) -> String {
        self.program.dev.arn(room)
    }

    /// Starts a killed node again; does not wait.
    pub(crate) fn restart(&mut self, node: usize) -> Result<(), BenchError> {
        self.members[node].process.restart()
    }

    pub(crate) fn busy(&self) -> Busy {
        let own = machine::thread_times(std::process::id());
        Busy {
            nodes: self
                .members
                .iter()
                .map(|node| node.process.busy())
                .collect(),
            brokers: self.brokers.iter().map(Process::busy).sum(),
            own: own.values().sum(),
        }
    }

    /// The sum of a metric over all nodes that answer, by its name without `uproar_`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let pages = self
            .members
            .iter()
            .map(|node| api::get(node.control, "/metrics"));
        pages.flatten().map(|page| sum_of(&page, name)).sum()
    }

    /// Makes rooms by the API of one node, in order.
    pub(crate) fn create_rooms(
        &self,
        node: usize,
        count: usize,
    ) -> Result<Vec<RoomId>, BenchError> {
        let control = self.control(node);
        (0..count)
            .map(|_| api::create_room(&self.program.dev, control))
            .collect()
    }

    /// The nodes as servers under test, with these rooms.
    pub(crate) fn servers(&self, rooms: &[RoomId]) -> Result<Vec<ServerUnderTest>, BenchError> {
        let attach = |node: &Node| {
            let attach = Attach {
                messaging: node.messaging,
                data_dir: node.data_dir.clone(),
                rooms: rooms.to_vec(),
                pid: node.process.pid(),
            };
            ServerUnderTest::attach(&self.program, attach)
        };
        self.members.iter().map(attach).collect()
    }

    /// How to ask a living node which node is home of each hash slot.
    pub(crate) fn homes_by(&self, node: usize) -> HomesBy {
        HomesBy {
            executable: self.program.executable.clone(),
            file: self.members[node].file.clone(),
        }
    }
}

/// Files and addresses of a node that does not run yet.
struct NodeFile {
    messaging: SocketAddr,
    control: SocketAddr,
    data_dir: PathBuf,
    file: PathBuf,
}

impl NodeFile {
    fn start(self, program: &Program, number: usize, directory: &Path) -> Result<Node, BenchError> {
        let executable = program.executable.as_path();
        let arguments = vec!["dev".into(), "--config".into(), self.file.clone().into()];
        let process = Process::start(name(number), (executable, executable), arguments, directory)?;
        Ok(Node {
            messaging: self.messaging,
            control: self.control,
            data_dir: self.data_dir,
            file: self.file,
            process,
        })
    }
}

/// Whether `/readyz` is 200.
pub(crate) fn is_ready(control: SocketAddr) -> bool {
    api::get(control, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The sum of a metric's series in Prometheus' text.
fn sum_of(page: &str, name: &str) -> f64 {
    let figure = |line: &str| {
        let rest = line.strip_prefix("uproar_")?.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then_some(())?;
        line.rsplit_once(' ')?.1.trim().parse::<f64>().ok()
    };
    page.lines().filter_map(figure).sum()
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a metric is the sum of its series, and of no other whose name begins alike.
    #[test]
    fn series_of_one_name_are_summed() {
        let page = "# TYPE uproar_sends counter\nuproar_sends{shard=\"0\"} 3\nuproar_sends{shard=\"1\"} 4.5\n\
                    uproar_sends_total 100\n";
        assert!((sum_of(page, "sends") - 7.5).abs() < 1e-9);
        assert!((sum_of(page, "sends_total") - 100.0).abs() < 1e-9);
        assert!(sum_of(page, "send").abs() < 1e-9);
    }
}
