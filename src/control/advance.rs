//! Turns the clocks of an emulator ahead, so that a test of an expiry takes no time.

use std::time::Duration;

use super::emulator::{Emulator, EmulatorFault};
use super::state::Control;
use crate::clock;
use crate::shard::command::Command;
use uproar_proto::base::limits::{
    EMULATOR_ADVANCE_MAX, TAKE_OVER_HANDSHAKES_MAX, TAKE_OVER_PAUSE_MAX,
};

impl Control {
    /// Moves the server's clocks ahead: tokens and sessions end, budgets refill. Returns how far they are ahead of the
    /// machine's. The shards are frozen meanwhile, as for a hand-over: that is the state in which a jump of time is no
    /// client's silence. Connections of TLS 1.2 do not outlive it.
    pub(super) async fn advance_clock(
        &self,
        emulator: &Emulator,
        by: Duration,
    ) -> Result<Duration, EmulatorFault> {
        let _alone = emulator.alone.lock().await;
        let gateway = &self.gateway;
        // Handshakes in progress end or are cut; new connections wait in the kernel's queue.
        let closed = gateway.turn_doors(false, TAKE_OVER_HANDSHAKES_MAX).await;
        let frozen = match closed {
            Ok(()) => gateway
                .ask_each(Command::Freeze, TAKE_OVER_PAUSE_MAX)
                .await
                .map(drop),
            Err(refused) => Err(refused),
        };
        let advanced = frozen
            .is_ok()
            .then(|| clock::advance(by, EMULATOR_ADVANCE_MAX));
        gateway.tell_each(|| Command::Thaw);
        self.look_now.notify_one();
        let opened = gateway.turn_doors(true, Duration::ZERO).await;
        frozen?;
        opened?;
        advanced.flatten().ok_or(EmulatorFault::TooFar)
    }
}
