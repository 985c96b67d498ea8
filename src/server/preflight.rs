//! Checks before a start: the data directory, and enough descriptors.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

use super::error::StartError;
use crate::config::Settings;
use crate::durable;
use crate::net::backend::Kind;
use crate::net::capacity::{Descriptors, divide, kept};
use crate::shard::carry::batch_viewers;
use uproar_proto::base::limits::CARRY_WINDOW;

/// Held for the server's lifetime: no second server takes the same directory, nor, through `SO_REUSEPORT`, silently
/// half of its connections.
#[derive(Debug)]
pub(super) struct Directory {
    lock: File,
    removed_at_end: OnceCell<PathBuf>,
}

impl Directory {
    /// The directory of the process before this one, with the lock that it holds too: locks belong to open files, and
    /// the last process that has this one open releases it. Nothing is emptied, and its process id stays noted.
    pub(super) fn handed_over(lock: OwnedFd) -> Self {
        Self {
            lock: lock.into(),
            removed_at_end: OnceCell::new(),
        }
    }

    /// The lock, for a process that takes over.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(super) fn lock(&self) -> io::Result<OwnedFd> {
        Ok(self.lock.try_clone()?.into())
    }

    /// Notes this process as the one that serves.
    ///
    /// # Errors
    ///
    /// The disk's. Nothing but messages depend on it.
    pub(super) fn note_process(&self) -> io::Result<()> {
        let noted = format!("{}\n", std::process::id());
        self.lock.set_len(0)?;
        self.lock.write_all_at(noted.as_bytes(), 0)
    }

    /// Removes the directory at the server's end, and now those that killed servers left beside it.
    pub(super) fn remove_at_end(&self, path: &Path) {
        let _said_before = self.removed_at_end.set(path.to_owned());
        if let Err(error) = remove_orphans(path) {
            tracing::debug!(%error, "data directories of killed servers stay");
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(path) = self.removed_at_end.get()
            && let Err(error) = fs::remove_dir_all(path)
        {
            tracing::warn!(path = %path.display(), %error, "the data directory stays");
        }
    }
}

/// Removes directories named like `own` except for the process id at the end, if they belong to this user, no
/// process has that id and their lock is free.
fn remove_orphans(own: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (own.parent(), own.file_name()) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let Some((prefix, _)) = name.rsplit_once('-') else {
        return Ok(());
    };
    for entry in parent.read_dir()? {
        let entry = entry?;
        let other = entry.file_name();
        let process = other.to_str().and_then(|other| {
            let process = other.strip_prefix(prefix)?.strip_prefix('-')?;
            process.parse::<u32>().ok()
        });
        let Some(process) = process else { continue };
        let metadata = entry.metadata()?;
        let lives = Path::new(&format!("/proc/{process}")).exists();
        if lives || !metadata.is_dir() || metadata.uid() != getuid().as_raw() {
            continue;
        }
        let free = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if free {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Creates and locks the data directory; `fresh` empties it first (dev's temporary one).
pub(super) fn data_directory(path: &Path, fresh: bool) -> Result<Directory, StartError> {
    let fail = |cause| StartError::Directory {
        path: path.to_owned(),
        cause,
    };
    match durable::private_directory().recursive(!fresh).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    let metadata = path.symlink_metadata().map_err(fail)?;
    if fresh && (!metadata.is_dir() || metadata.uid() != getuid().as_raw()) {
        return Err(fail(io::Error::other("it belongs to somebody else")));
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let mut lock = options.open(path.join("lock")).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // The holder wrote its process id; a failure to read it changes nothing.
            let mut holder = String::new();
            let _unread = lock.read_to_string(&mut holder);
            return Err(StartError::Locked {
                path: path.to_owned(),
                holder: holder.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    durable::give_to_directory_owner(&lock, path).map_err(fail)?;
    let directory = Directory {
        lock,
        removed_at_end: OnceCell::new(),
    };
    directory.note_process().map_err(fail)?;
    if fresh {
        for entry in path.read_dir().map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_name() == "lock" {
                continue;
            }
            let is_dir = entry.file_type().map_err(fail)?.is_dir();
            let entry = entry.path();
            let removed = if is_dir {
                fs::remove_dir_all(entry)
            } else {
                fs::remove_file(entry)
            };
            removed.map_err(fail)?;
        }
    }
    Ok(directory)
}

/// Raises the limit on open files to its maximum; returns the resulting limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Without the right to raise it, the current limit remains.
    let _as_it_is = setrlimit(Resource::Nofile, raised);
    open_files()
}

/// Lowers the bounds on connections to what the limit on open files allows, which is raised first.
pub(super) fn fit(settings: &mut Settings, io: Kind, shards: usize) -> Result<(), StartError> {
    let all = descriptors(io, shards)?;
    let allowed = usize::try_from(all.connections).unwrap_or(usize::MAX);
    let wanted = settings.shard.connections_max;
    if allowed < wanted {
        let share = match io {
            Kind::IoUring => "bounds the tables of the rings",
            Kind::Epoll => "counts each viewer with epoll (server.io)",
        };
        tracing::warn!(
            allowed,
            wanted,
            open_files = open_files(),
            "the limit on open files allows fewer connections than quotas.connections, as it {share}; \
             raise LimitNOFILE= to have them all"
        );
    }
    settings.shard.connections_max = wanted.min(allowed);
    let spare = usize::try_from(all.handshakes).unwrap_or(usize::MAX);
    settings.accept = settings.accept.clone().within(spare / 2 / shards);
    settings.control_admission = settings.control_admission.clone().within(spare / 4);
    Ok(())
}

/// Raises the limit on open files to its maximum, and divides it.
fn descriptors(io: Kind, shards: usize) -> Result<Descriptors, StartError> {
    let limit = raise_descriptor_limit();
    let shards = u64::try_from(shards).expect("a few shards");
    let needed = kept(shards);
    if limit < needed {
        return Err(StartError::Descriptors { limit, needed });
    }
    Ok(divide(io, limit, shards))
}

fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets the kernel make the descriptor table as large as the hand-over of `shards` shards needs it. To enlarge the table of a
/// process with several threads takes the kernel some 10 ms each time: now nobody waits for it, in a hand-over all viewers would.
pub(super) fn grow_descriptor_table(io: Kind, shards: usize) {
    let limit = open_files();
    let window = usize::try_from(CARRY_WINDOW).expect("a few batches");
    let of_shards = u64::try_from(shards).expect("a few shards");
    let passing = divide(io, limit, of_shards).passing;
    let on_the_way = batch_viewers(passing, shards) * shards * window;
    let last = kept(of_shards)
        .saturating_add(u64::try_from(on_the_way).unwrap_or(u64::MAX))
        .min(limit)
        - 1;
    let last = i32::try_from(last).unwrap_or(i32::MAX);
    // Tables do not shrink. One that stays small costs time later, and nothing else.
    let _grown = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), last);
}
