//! The known members of a request, on simd-json's tape.

#![expect(
    clippy::indexing_slicing,
    reason = "fewer members than JSON_MEMBERS_MAX were seen"
)]

use simd_json::{Node, StaticNode};

use super::fault::{Fault, bad};
use crate::base::limits::JSON_MEMBERS_MAX;
use crate::chat::texts;

/// The known members, by their index on the tape.
#[derive(Default)]
pub(super) struct Members {
    pub(super) action: Option<usize>,
    pub(super) request_id: Option<usize>,
    pub(super) content: Option<usize>,
    pub(super) attributes: Option<usize>,
    pub(super) id: Option<usize>,
    pub(super) reason: Option<usize>,
    pub(super) user_id: Option<usize>,
}

/// Returns a member's value; `null` is the same as absent.
pub(super) fn member<'a>(tape: &[Node<'a>], index: Option<usize>) -> Option<Node<'a>> {
    let node = *tape.get(index?)?;
    (node != Node::Static(StaticNode::Null)).then_some(node)
}

/// Finds the known members of the object.
pub(super) fn members(tape: &[Node<'_>]) -> Result<Members, Fault> {
    let Some(Node::Object { len, .. }) = tape.first() else {
        return Err(bad(texts::NOT_OBJECT));
    };
    if *len > JSON_MEMBERS_MAX {
        return Err(bad(texts::TOO_MANY_MEMBERS));
    }
    let mut members = Members::default();
    let mut seen = [0_usize; JSON_MEMBERS_MAX];
    let mut at = 1;
    for count in 0..*len {
        let Some(Node::String(key)) = tape.get(at) else {
            return Err(bad(texts::NOT_JSON));
        };
        let twice = seen[..count].iter().any(|earlier| {
            matches!(tape.get(*earlier), Some(Node::String(other)) if key.eq_ignore_ascii_case(other))
        });
        if twice {
            return Err(bad(texts::DUPLICATE));
        }
        seen[count] = at;
        if let Some(place) = members.place(key) {
            *place = Some(at + 1);
        }
        at = after(tape, at + 1);
    }
    Ok(members)
}

impl Members {
    fn place(&mut self, key: &str) -> Option<&mut Option<usize>> {
        let places: [(&str, &mut Option<usize>); 7] = [
            ("Action", &mut self.action),
            ("RequestId", &mut self.request_id),
            ("Content", &mut self.content),
            ("Attributes", &mut self.attributes),
            ("Id", &mut self.id),
            ("Reason", &mut self.reason),
            ("UserId", &mut self.user_id),
        ];
        places
            .into_iter()
            .find(|(name, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, place)| place)
    }
}

/// Returns the index after the value at `at`.
fn after(tape: &[Node<'_>], at: usize) -> usize {
    match tape.get(at) {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + 1 + count,
        Some(Node::String(_) | Node::Static(_)) | None => at + 1,
    }
}
