//! Files that keep what they promise: replaced as a whole, or appended to and recovered.
//!
//! Everything the server keeps on disk, the database aside, is written here and nowhere else, so that there
//! is one answer to what a full disk, a failed operation, a kill or a loss of power leaves behind:
//! [`replace`] for files with one content at a time, [`Appender`] for files that grow. In tests each single
//! operation can be made to fail, and the machine to stop after each (`faults`).

mod append;
#[cfg(test)]
pub mod faults;
mod operation;
mod replace;
mod watched;

pub use append::Appender;
pub use operation::{keep, remove};
pub use replace::{
    Access, Owner, Survives, give_to_directory_owner, lock, overwrite, publish, replace,
    replace_with,
};
pub use watched::Watched;
