//! The files of `uproar dev --cluster`: a configuration for each broker and each node, and the secret they share.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::broker;
use super::fault::DevClusterError;
use super::ports::{self, Member};
use crate::config::{Profile, dev_node_dir, dev_node_file};
use crate::durable::{Access, Survives, private_directory, replace};
use crate::random;
use crate::supervisor::blocking;

/// The name of the cluster: part of its streams' names.
const CLUSTER: &str = "dev";

/// Where everything is.
#[derive(Debug)]
pub(super) struct Layout {
    directory: PathBuf,
    broker: PathBuf,
    uproar: PathBuf,
    quotas: Profile,
}

impl Layout {
    /// Writes the files into an empty directory.
    pub(super) fn write(
        directory: PathBuf,
        broker: PathBuf,
        quotas: Profile,
    ) -> Result<Self, DevClusterError> {
        let uproar = std::env::current_exe().map_err(|cause| DevClusterError::Program {
            program: "uproar".into(),
            cause,
        })?;
        let layout = Self {
            directory,
            broker,
            uproar,
            quotas,
        };
        layout.write_all()?;
        Ok(layout)
    }

    /// The directory of all.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn write_all(&self) -> Result<(), DevClusterError> {
        let secret = self.secret();
        let fail = |path: &Path, cause| DevClusterError::File {
            path: path.to_owned(),
            cause,
        };
        let bytes = random::bytes::<32>().map_err(|cause| fail(&secret, cause))?;
        let mut files = vec![(secret, bytes.to_vec())];
        for ports in ports::all() {
            for directory in [
                self.store(ports),
                dev_node_dir(&self.directory, ports.number),
            ] {
                let made = private_directory().create(&directory);
                made.map_err(|cause| fail(&directory, cause))?;
            }
            let text = broker::configuration(ports, &self.store(ports));
            files.push((self.broker_file(ports), text.into_bytes()));
            files.push((self.node_file(ports), self.node(ports).into_bytes()));
        }
        for (path, bytes) in files {
            replace(&path, &bytes, Access::PRIVATE, Survives::Kill)
                .map_err(|cause| fail(&path, cause))?;
        }
        Ok(())
    }

    fn secret(&self) -> PathBuf {
        self.directory.join("cluster.key")
    }

    fn store(&self, ports: Member) -> PathBuf {
        self.directory.join(format!("broker-{}", ports.number))
    }

    fn broker_file(&self, ports: Member) -> PathBuf {
        self.directory.join(format!("broker-{}.conf", ports.number))
    }

    fn node_file(&self, ports: Member) -> PathBuf {
        dev_node_file(&self.directory, ports.number)
    }

    /// A node's configuration. Its keys, region and account are those of `uproar dev`.
    fn node(&self, ports: Member) -> String {
        let servers: Vec<_> = ports::all()
            .map(|ports| format!("\"nats://127.0.0.1:{}\"", ports.broker))
            .collect();
        let (servers, quotas) = (servers.join(", "), self.quotas.name());
        let Member {
            number,
            messaging,
            control,
            ..
        } = ports;
        let data_dir = broker::quoted(&dev_node_dir(&self.directory, number));
        let secret = broker::quoted(&self.secret());
        format!(
            "[server]\ndata_dir = {data_dir}\nshards = 1\n\
             [messaging]\nlisten = \"127.0.0.1:{messaging}\"\n\
             [control]\nlisten = \"127.0.0.1:{control}\"\n\
             [quotas]\nprofile = \"{quotas}\"\n\
             [cluster]\nname = \"{CLUSTER}\"\nservers = [{servers}]\nnode = \"node-{number}\"\nsecret_file = {secret}\n"
        )
    }

    /// Program and arguments of a broker.
    pub(super) fn broker_command(&self, ports: Member) -> (PathBuf, Vec<OsString>) {
        let arguments = vec!["--config".into(), self.broker_file(ports).into()];
        (self.broker.clone(), arguments)
    }

    /// Program and arguments of a node.
    pub(super) fn node_command(&self, ports: Member) -> (PathBuf, Vec<OsString>) {
        let arguments = vec![
            "dev".into(),
            "--config".into(),
            self.node_file(ports).into(),
        ];
        (self.uproar.clone(), arguments)
    }

    /// `uproar cluster init`: makes streams and bucket.
    pub(super) async fn init(&self) -> Result<(), DevClusterError> {
        let mut command = Command::new(&self.uproar);
        let first = self.node_file(ports::member(1));
        command.args(["cluster", "init", "--config"]).arg(first);
        let done: io::Result<Output> = blocking(move || command.output()).await;
        let done = done.map_err(|cause| DevClusterError::Program {
            program: self.uproar.clone(),
            cause,
        })?;
        if done.status.success() {
            return Ok(());
        }
        Err(DevClusterError::Ended {
            name: "`uproar cluster init`".to_owned(),
            status: done.status.to_string(),
            said: String::from_utf8_lossy(&done.stderr).into(),
        })
    }

    /// Where a process's output goes.
    pub(super) fn log_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }
}

/// The last lines of a log.
pub(super) fn last_lines(log: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
