//! Messages that wait for a moderator, on their way to another process.

use bytes::Bytes;

use uproar_proto::base::clock::{Shift, Tick};
use uproar_proto::tagged::{Fields, Tagged};

/// A message that waits for a moderator; repeated, in order.
pub(super) const WAITING: u32 = 40;

// Its fields: the message, until when, and the rule.
const MESSAGE: u32 = 1;
const UNTIL: u32 = 2;
const RULE: u32 = 3;

/// Writes one that waits until then, because of this rule.
pub(super) fn write(
    fields: &mut Fields,
    message: impl FnOnce(&mut Fields),
    (until, rule): (Tick, &str),
) {
    fields.nested(WAITING, |fields| {
        fields.nested(MESSAGE, message);
        fields.number(UNTIL, until.nanos());
        fields.bytes(RULE, rule.as_bytes());
    });
}

/// Reads one; one that is not whole is left out.
pub(super) fn read(waiting: &[u8], bytes: &Bytes, shift: Shift) -> Option<(Bytes, Tick, Box<str>)> {
    let fields = Tagged::parse(waiting).ok()?;
    let message = fields.need(MESSAGE).ok()?;
    let until = shift.tick(fields.need_number(UNTIL).ok()?);
    let rule = fields.need_text(RULE).ok()?.into();
    Some((bytes.slice_ref(message), until, rule))
}
