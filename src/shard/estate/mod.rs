//! What a shard hands over to another process: its rooms, and a record for each viewer.
//!
//! Everything is tagged fields (`uproar_proto::tagged`) around bytes of RFC 6455 and JSON of the
//! contract: the other process may be of another version. A record that cannot be read costs its
//! viewer the connection, not the hand-over.
//!
//! | file | subject |
//! |---|---|
//! | [`rooms`] | the rooms of all shards: rates, messages under review, what members have not got yet |
//! | [`viewer`] | one viewer: session, bytes that were not sent, place in the room |
//! | [`carried`] | how many viewers are carried over, and why others are not |
//! | [`unfinished`] | what the control thread has to do still |
//! | [`order`] | what a hand-over asks of a shard's driver |

pub mod carried;
pub mod order;
pub mod rooms;
pub mod unfinished;
pub mod viewer;

pub use carried::{Carried, NotCarried, SenderTag, ViewersCursor};
pub use order::Order;
pub use rooms::RoomsEstate;
pub use rooms::merge::merge_rooms;
pub use unfinished::Unfinished;
pub use viewer::{Inherited, Viewers};
