//! What a room remembers for one who joins, within the bytes of a second.

use crate::shard::command::PendingConnection;
use crate::shard::core::env::Env;
use crate::shard::shard_room::remembering::Remembering;
use uproar_proto::extension::speech::Key;
use uproar_proto::room::memory::Replay;

/// Gives a connection what its room remembers for it, before it is installed here or on another shard.
#[cold]
pub(super) fn recall<S>(
    remembering: &mut Remembering,
    pending: &mut PendingConnection<S>,
    env: &Env<S>,
) {
    let user = Key::of_sender(&pending.grant.sender_json);
    let after = pending.traits.as_ref().and_then(|traits| traits.after);
    let (now, metrics) = (env.now.tick, &*env.metrics);
    let frame = pending.arrival.heard;
    let Some(replay) = remembering.replay(user, after, frame, (now, metrics)) else {
        return;
    };
    let bytes = u64::try_from(replay.frames.len()).expect("64 KiB");
    let rate = env.settings.history_bytes_per_second;
    let is_within = env.budgets.history.take_units(bytes, rate, now);
    let result = match &replay {
        _ if !is_within => &metrics.history_none,
        Replay {
            is_resumed: true, ..
        } => &metrics.history_resumed,
        Replay {
            is_complete: true, ..
        } => &metrics.history_full,
        Replay { .. } => &metrics.history_short,
    };
    result.inc();
    let replay = if is_within {
        metrics.history_bytes.add(bytes);
        replay
    } else {
        Replay::refused()
    };
    pending.arrival.replay = Some(Box::new(replay));
}
