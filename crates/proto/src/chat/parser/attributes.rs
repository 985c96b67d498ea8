//! The attributes of a message: checked, and written as compact JSON.

#![expect(clippy::indexing_slicing, reason = "windows of two have two items")]

use simd_json::Node;

use super::fault::{Fault, bad};
use crate::base::limits::ATTRIBUTES_BYTES_MAX;
use crate::chat::encode::object;
use crate::chat::{ErrorCode, texts};

/// Checks the attributes at `at` and writes them to `out` as compact JSON.
pub(super) fn take_attributes(
    tape: &[Node<'_>],
    at: usize,
    out: &mut Vec<u8>,
    order: &mut Vec<u32>,
) -> Result<(), Fault> {
    let Some(Node::Object { len, .. }) = tape.get(at) else {
        return Err(bad(texts::ATTRIBUTES));
    };
    let pairs = tape
        .get(at + 1..at + 1 + 2 * len)
        .ok_or(bad(texts::ATTRIBUTES))?;
    let (pairs, _) = pairs.as_chunks::<2>();
    let mut bytes = 0;
    for pair in pairs {
        let [Node::String(key), Node::String(value)] = pair else {
            return Err(bad(texts::ATTRIBUTES));
        };
        bytes += key.len() + value.len();
    }
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err((ErrorCode::PayloadTooLarge, texts::ATTRIBUTES_SIZE));
    }
    if has_duplicates(pairs, order) {
        return Err(bad(texts::DUPLICATE));
    }
    out.clear();
    object(
        out,
        pairs
            .iter()
            .filter_map(|pair| Some((string(pair[0])?, string(pair[1])?))),
    );
    Ok(())
}

/// Whether two keys are equal. It sorts, since a kilobyte holds hundreds of short keys.
fn has_duplicates(pairs: &[[Node<'_>; 2]], order: &mut Vec<u32>) -> bool {
    let key = |index: &u32| {
        let index = usize::try_from(*index).expect("an index into memory");
        pairs
            .get(index)
            .and_then(|pair| string(pair[0]))
            .unwrap_or_default()
    };
    order.clear();
    order.extend((0..).take(pairs.len()));
    order.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    order.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]))
}

fn string(node: Node<'_>) -> Option<&str> {
    match node {
        Node::String(text) => Some(text),
        Node::Object { .. } | Node::Array { .. } | Node::Static(_) => None,
    }
}
