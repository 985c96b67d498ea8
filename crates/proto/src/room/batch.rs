//! The frames of one flush.

use crate::base::segment::Piece;

/// The frames of one flush, concatenated, in one encoding for all members or in two.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The uncompressed frames.
    pub plain: Piece,
    /// The same frames for members that agreed to compression, never longer; `None`: there were no
    /// such members when the frames were appended, and those that joined since read `plain`.
    pub deflated: Option<Piece>,
    /// Number of frames, the same in both encodings.
    pub frames: u32,
}

impl Batch {
    /// Returns the bytes of both encodings.
    pub fn bytes(&self) -> usize {
        self.plain.len() + self.deflated.as_ref().map_or(0, Piece::len)
    }

    pub(super) fn piece(&self, deflated: bool) -> &Piece {
        self.deflated
            .as_ref()
            .filter(|_| deflated)
            .unwrap_or(&self.plain)
    }
}
