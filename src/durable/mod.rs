//! Files with guarantees: replaced as a whole, or appended to and recovered.
//!
//! All files the server keeps, except the database, are written here and nowhere else, so that there is one answer
//! to the state after a full disk, a failed operation, a kill or a power failure: [`replace()`] for files with one
//! content at a time, [`Appender`] for files that grow. In tests each operation can fail, and the machine can stop
//! after each (`faults`).

mod append;
mod directory;
mod exposure;
#[cfg(test)]
pub(crate) mod faults;
mod operation;
mod replace;
mod watched;

pub(crate) use append::Appender;
pub(crate) use directory::{private_directory, private_directory_like_its_parent};
pub(crate) use exposure::exposed;
pub(crate) use operation::{keep, remove};
pub(crate) use replace::{
    Access, Owner, Survives, give_to_directory_owner, lock, overwrite, publish, replace,
    replace_with, try_lock,
};
pub(crate) use watched::Watched;
