//! Chat logging (contract §5).
pub mod batch;
pub mod layout;
pub mod record;
pub mod spool;
