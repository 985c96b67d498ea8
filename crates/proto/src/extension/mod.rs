//! What Uproar adds to IVS Chat, in rooms whose tags ask for it: settings as tags `uproar:<name>`, the state of such a
//! room as an event, commands as messages with the attribute `uproar:do`, and attributes of tokens for the server.
//!
//! A room without such tags has none of it, and behaves as IVS Chat's.

mod alias;
pub mod bans;
pub mod command;
pub mod held;
pub mod modes;
pub mod new_ban;
pub mod pin;
pub mod reactions;
pub mod recent;
pub mod rules;
pub mod settings;
pub mod speaker;
pub mod speech;
pub mod state;
pub mod tags;
pub mod tallies;
pub mod tally;
pub mod traits;
pub mod unique;
pub mod viewers;

pub use command::{Command, Commands, Verb};
pub use modes::{Modes, Speech};
pub use pin::Pin;
pub use settings::{Recall, Settings};
pub use speaker::Speaker;
pub use state::Extension;
pub use tags::TagFault;
pub use tallies::Tallies;
pub use traits::Traits;

/// Prefix of everything that is ours: tags, attributes, names of events.
pub const PREFIX: &str = "uproar:";

/// Whether a tag, an attribute or the name of an event is ours.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}
