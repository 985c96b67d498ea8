//! What a room remembers, on its way to another process.

use bytes::Bytes;

use crate::shard::shard_room::remembering::Remembering;
use uproar_proto::base::clock::{Shift, Tick};
use uproar_proto::extension::speech::Key;
use uproar_proto::room::stands::Stand;
use uproar_proto::tagged::{Fields, Tagged};

/// Before which of the room's frames messages may be forgotten.
pub(super) const FORGOTTEN: u32 = 32;
/// A remembered frame: its number, when it was flushed, 8 bytes each, and its bytes; repeated, oldest first.
pub(super) const REMEMBERED: u32 = 33;
/// Viewers who left: user, place, whether that is sure, when; 8 bytes each, oldest first.
pub(super) const PLACES: u32 = 34;
/// Viewers who are here: user, and the frame at which he came; 8 bytes each. Older versions left them out.
pub(super) const PRESENT: u32 = 35;

/// Writes messages and places; nothing without a memory.
pub(super) fn write(fields: &mut Fields, kept: &Remembering) {
    let Remembering {
        memory: Some(memory),
        stands,
        ..
    } = kept
    else {
        return;
    };
    let (all, forgotten) = memory.all();
    fields.number(FORGOTTEN, forgotten);
    for remembered in all {
        let (number, noted) = remembered.place();
        let places = [number, noted.nanos()].map(u64::to_le_bytes);
        fields.bytes(
            REMEMBERED,
            &[places.as_flattened(), remembered.frame()].concat(),
        );
    }
    let left = stands
        .left()
        .flat_map(|(user, stand, at)| [user.bits(), stand.frame, stand.is_sure.into(), at.nanos()]);
    let present = stands
        .present()
        .flat_map(|(user, joined)| [user.bits(), joined]);
    let left: Vec<u8> = left.flat_map(u64::to_le_bytes).collect();
    let present: Vec<u8> = present.flat_map(u64::to_le_bytes).collect();
    for (number, places) in [(PLACES, left), (PRESENT, present)] {
        if !places.is_empty() {
            fields.bytes(number, &places);
        }
    }
}

/// Numbers, when they were flushed, frames. A cut piece is left out.
pub(super) fn read(room: Tagged<'_>, bytes: &Bytes, shift: Shift) -> Vec<(u64, Tick, Bytes)> {
    let read = |remembered| {
        let remembered: Bytes = bytes.slice_ref(remembered);
        let (number, rest) = remembered.split_first_chunk::<8>()?;
        let (noted, frame) = rest.split_first_chunk::<8>()?;
        let noted = shift.tick(u64::from_le_bytes(*noted));
        Some((
            u64::from_le_bytes(*number),
            noted,
            remembered.slice_ref(frame),
        ))
    };
    room.all(REMEMBERED).filter_map(read).collect()
}

/// Who was here, and at which frame he came; a cut one is left out.
pub(super) fn read_present(bytes: &[u8]) -> Vec<(Key, u64)> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let (all, _) = numbers.as_chunks::<2>();
    let read = |one: &[[u8; 8]; 2]| {
        let [user, joined] = one.map(u64::from_le_bytes);
        (Key::from_bits(user), joined)
    };
    all.iter().map(read).collect()
}

/// Where viewers stood who left; a cut one is left out.
pub(super) fn read_places(bytes: &[u8], shift: Shift) -> Vec<(Key, Stand, Tick)> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let (places, _) = numbers.as_chunks::<4>();
    let read = |place: &[[u8; 8]; 4]| {
        let [user, frame, is_sure, at] = place.map(u64::from_le_bytes);
        let stand = Stand {
            frame,
            is_sure: is_sure != 0,
        };
        (Key::from_bits(user), stand, shift.tick(at))
    };
    places.iter().map(read).collect()
}
