//! Notes moderators' acts where they are carried out: in the room's home, before anybody hears of them.

use super::PublishContext;
use crate::audit::{By, Entry};
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::encode;

impl PublishContext<'_> {
    /// Notes an act of a member. What the API does has no sender: the control plane notes it with its key.
    pub(super) fn note_act(
        &self,
        room: RoomId,
        (action, target, reason): (&'static str, &str, &str),
        sender_json: &str,
    ) {
        let audit = &self.budgets.audit;
        if sender_json.is_empty() {
            return;
        }
        audit.note(|| Entry {
            time: self.now.unix,
            by: By::User(encode::sender_name(sender_json)),
            action,
            room: audit.room_arn(&room),
            target: target.to_owned(),
            reason: reason.to_owned(),
            result: "ok".to_owned(),
        });
    }
}
