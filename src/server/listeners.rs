//! The listening sockets: those the process was started with if they fit, else new ones.
//!
//! Somebody who outlives the server keeps them: the service manager, who is given each new one under its name and
//! passes all to the next process (sd_pid_notify_with_fds(3)), its `.socket` unit, or the successor of a hand-over.
//! So clients wait in the kernel's queue while nobody serves, instead of being refused.

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use super::StartError;
use super::notify::Notifier;
use crate::config::Settings;
use crate::exposition::{Exposition, Family};
use crate::net::{inherited, socket};
use crate::shard::mesh;
use uproar_proto::base::limits::INHERITED_LISTENERS_MAX;

const CONTROL: &str = "control";
const MESSAGING: &str = "messaging";

const INHERITED: Family = Family::gauge(
    "uproar_listeners_inherited",
    "Listening sockets that the process was given: by the service manager, or by the process before it.",
);

/// Sockets that somebody passed to this process, by name.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// Those that the process was started with (sd_listen_fds(3)). Call first in the process, once.
    pub(super) fn of_environment() -> Self {
        let variable = |name| env::var(name).ok();
        let names = passed_names(
            std::process::id(),
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        );
        let sockets = inherited::claim(names.len());
        let open = |(name, socket): (_, Option<_>)| Some((name, socket?));
        Self(names.into_iter().zip(sockets).filter_map(open).collect())
    }

    /// Those of [`Listeners::named`] in the process that this one takes over from.
    pub(crate) fn of_named(named: Vec<(String, OwnedFd)>) -> Self {
        Self(named)
    }
}

/// The names of the sockets that were passed to process `own`, in the order of their descriptors.
fn passed_names(
    own: u32,
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> Vec<String> {
    // The variables of an ancestor mean descriptors that this process has not.
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Vec::new();
    }
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    let names = names.unwrap_or_default().split(':');
    names
        .chain(std::iter::repeat(""))
        .take(INHERITED_LISTENERS_MAX.min(count))
        .map(str::to_owned)
        .collect()
}

/// The control listener, and messaging listeners, which the shards share.
#[derive(Debug)]
pub(crate) struct Listeners {
    control: Named,
    // Not empty; all on one address.
    messaging: Vec<Named>,
    inherited: usize,
}

#[derive(Debug)]
struct Named {
    name: String,
    socket: TcpListener,
}

impl Listeners {
    /// Takes the inherited sockets that fit the settings, closes the others, and binds what is missing. `notifier` is
    /// given the new ones to keep.
    ///
    /// # Errors
    ///
    /// An address cannot be bound.
    pub(super) fn inherited_or_bound(
        settings: &Settings,
        inherited: Inherited,
        notifier: &Notifier,
    ) -> Result<Self, StartError> {
        let mut found = Found::default();
        for (name, socket) in inherited.0 {
            if let Err(reason) = found.sort_in(&name, socket, settings) {
                tracing::warn!(name, %reason, "an inherited socket is closed");
                notifier.remove(&name);
            }
        }
        let inherited = found.messaging.len() + usize::from(found.control.is_some());
        let control = match found.control {
            Some(control) => control,
            None => Named::new(CONTROL, bind_control(settings)?, notifier),
        };
        let mut messaging = found.messaging;
        let names: BTreeSet<String> = messaging.iter().map(|named| named.name.clone()).collect();
        let mut free = (0..).map(|number| format!("{MESSAGING}-{number}"));
        for socket in missing(&messaging, settings)? {
            let name = free.find(|name| !names.contains(name));
            let name = name.expect("as many names as numbers");
            messaging.push(Named::new(&name, socket, notifier));
        }
        if inherited > 0 {
            let all = messaging.len() + 1;
            tracing::info!(inherited, all, "listening on inherited sockets");
        }
        Ok(Self {
            control,
            messaging,
            inherited,
        })
    }

    /// Duplicates of all sockets with their names, for the successor of a hand-over.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(crate) fn named(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let all = std::iter::once(&self.control).chain(&self.messaging);
        all.map(|named| Ok((named.name.clone(), named.socket.try_clone()?.into())))
            .collect()
    }

    /// Adds to `/metrics` how many of them the process was given.
    pub(super) fn render(&self, page: &mut Exposition) {
        page.single(&INHERITED, self.inherited);
    }

    /// A duplicate of the control listener.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(super) fn control(&self) -> io::Result<TcpListener> {
        self.control.socket.try_clone()
    }

    /// The messaging listeners, dealt out to `shards` shards.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(super) fn messaging(&self, shards: usize) -> io::Result<mesh::Listeners> {
        let sockets: Vec<_> = self.messaging.iter().map(|named| &named.socket).collect();
        mesh::Listeners::deal(&sockets, shards)
    }
}

impl Named {
    /// A new socket, which `notifier` is asked to keep.
    fn new(name: &str, socket: TcpListener, notifier: &Notifier) -> Self {
        notifier.store(name, socket.as_fd());
        let name = name.to_owned();
        Self { name, socket }
    }
}

/// The inherited sockets that fit.
#[derive(Debug, Default)]
struct Found {
    control: Option<Named>,
    messaging: Vec<Named>,
}

impl Found {
    /// Takes a socket whose address is the configuration's. Its name says what it is for, if it is one of ours; a
    /// `.socket` unit may have named it otherwise.
    fn sort_in(&mut self, name: &str, socket: OwnedFd, settings: &Settings) -> io::Result<()> {
        let socket = socket::listening(socket)?;
        let (control, messaging) = (settings.control_listen, settings.messaging_listen);
        let is_control = match name {
            CONTROL => true,
            _ if name.starts_with(MESSAGING) => false,
            _ => socket::hears(&socket, control)? && !socket::hears(&socket, messaging)?,
        };
        let wanted = if is_control { control } else { messaging };
        if !socket::hears(&socket, wanted)? {
            let bound = socket.local_addr()?;
            let reason = format!("it listens on {bound}, and the configuration says {wanted}");
            return Err(io::Error::other(reason));
        }
        let name = name.to_owned();
        if !is_control {
            socket::prepare_messaging(&socket)?;
            self.messaging.push(Named { name, socket });
        } else if self.control.is_none() {
            socket::prepare_control(&socket)?;
            self.control = Some(Named { name, socket });
        }
        Ok(())
    }
}

fn bind_control(settings: &Settings) -> Result<TcpListener, StartError> {
    let address = settings.control_listen;
    socket::listen_alone(address).map_err(failed(address, "--control-listen"))
}

/// Binds the messaging listeners that are missing to have one for each shard. Beside inherited ones the kernel refuses
/// them if another user bound those, as systemd does for a `.socket` unit: then the shards share what there is.
fn missing(inherited: &[Named], settings: &Settings) -> Result<Vec<TcpListener>, StartError> {
    let (shards, configured) = (settings.shard.shard_count, settings.messaging_listen);
    let failed = failed(configured, "--messaging-listen");
    let Some(first) = inherited.first() else {
        return mesh::bind(configured, shards).map_err(failed);
    };
    let address = first.socket.local_addr().map_err(failed)?;
    let more = (inherited.len()..shards).map_while(|_| socket::listen_shared(address).ok());
    Ok(more.collect())
}

fn failed(address: SocketAddr, flag: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |cause| StartError::Bind {
        address,
        flag,
        cause,
    }
}

#[cfg(test)]
mod tests;
