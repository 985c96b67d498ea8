//! What a room's home knows of its viewers beside who is there, on its way to another process.

use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::extension::viewers::Viewers;
use uproar_proto::tagged::{Fault, Fields, Tagged};

/// The most viewers at once, and when that was, in nanoseconds since 1970.
const PEAK: u32 = 11;
const PEAK_AT: u32 = 12;
/// The number of viewers that members were told last, and how many have come since.
const TOLD: u32 = 21;
const JOINED_SINCE: u32 = 22;

/// What another process knew; nothing of what it did not.
#[derive(Debug, Default)]
pub(in crate::shard) struct ViewersEstate {
    peak: Option<(u32, UnixTime)>,
    told: Option<(u64, u64)>,
}

/// Writes what is known.
pub(super) fn write(fields: &mut Fields, viewers: &Viewers) {
    let here = viewers.here();
    fields.number(PEAK, here.peak.into());
    fields.number(PEAK_AT, here.peak_at.nanos());
    if let Some((count, joined)) = viewers.told_and_joined() {
        fields.number(TOLD, count);
        fields.number(JOINED_SINCE, joined);
    }
}

/// Reads it.
pub(super) fn read(fields: Tagged<'_>) -> Result<ViewersEstate, Fault> {
    let peak = fields.number(PEAK)?;
    let peak = peak.and_then(|peak| u32::try_from(peak).ok());
    let at = UnixTime::from_nanos(fields.number(PEAK_AT)?.unwrap_or(0));
    let told = fields.number(TOLD)?;
    Ok(ViewersEstate {
        peak: peak.map(|peak| (peak, at)),
        told: told.zip(fields.number(JOINED_SINCE)?),
    })
}

impl ViewersEstate {
    /// Hands it over to the room's home in this process.
    pub(in crate::shard) fn inherit(&self, viewers: &mut Option<Box<Viewers>>, now: Tick) {
        if let Some((peak, at)) = self.peak {
            viewers.get_or_insert_default().inherit_peak(peak, at);
        }
        if let Some(told) = self.told {
            viewers.get_or_insert_default().inherit_told(told, now);
        }
    }
}
