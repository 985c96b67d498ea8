//! The largest and busiest rooms on the page of metrics, if the configuration wants any: few, since each is a series for
//! whoever stores the figures.

use std::collections::BTreeMap;

use crate::control::state::Control;
use crate::exposition::{Exposition, Family};

/// Adds the first rooms by viewers and by messages. Their home shards count them now, a piece of all rooms in each turn; if
/// a shard does not answer in time there are none this time.
pub(super) async fn render(control: &Control, page: &mut Exposition) {
    let count = control.metrics_rooms.get();
    if count == 0 {
        return;
    }
    let Ok(top) = control.gateway.top_rooms(count).await else {
        return;
    };
    let first = top.by_viewers.into_iter().chain(top.by_rate);
    let rooms: BTreeMap<_, _> = first.map(|figures| (figures.room, figures)).collect();
    let ids: Vec<_> = rooms.keys().copied().collect();
    let Ok(shed) = control.gateway.shed_in(&ids).await else {
        return;
    };
    let mut viewers = page.family(&VIEWERS);
    for (room, figures) in &rooms {
        viewers.add(&[("room", room.as_str())], figures.viewers);
    }
    let mut messages = page.family(&MESSAGES);
    for (room, figures) in &rooms {
        let rate = f64::from(u32::try_from(figures.per_minute).unwrap_or(u32::MAX)) / 60.0;
        messages.add(&[("room", room.as_str())], rate);
    }
    let mut refused = page.family(&REFUSED);
    for (room, figures) in &rooms {
        refused.add(&[("room", room.as_str())], figures.refused);
    }
    let mut lost = page.family(&SHED);
    for (shard, of_shard) in shed.iter().enumerate() {
        let shard = shard.to_string();
        for (room, frames) in ids.iter().zip(of_shard).filter(|(_, frames)| **frames > 0) {
            lost.add(&[("room", room.as_str()), ("shard", &shard)], frames);
        }
    }
}

const VIEWERS: Family = Family::gauge(
    "uproar_room_viewers",
    "Viewers of a room on this server: of the rooms with most viewers or most messages.",
);
const MESSAGES: Family = Family::gauge(
    "uproar_room_messages_per_second",
    "Messages and events of such a room, of the last minute.",
);
const REFUSED: Family = Family::counter(
    "uproar_room_messages_refused_total",
    "Requests of such a room that were over its rate, the account's, or a full room log.",
);
const SHED: Family = Family::counter(
    "uproar_room_messages_shed_total",
    "Frames that slow viewers of such a room on one shard did not get.",
);
