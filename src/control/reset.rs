//! Brings an emulator back to its start.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::JoinSet;

use super::emulator::{Emulator, EmulatorFault};
use super::fault::Fault;
use super::op::rooms::create_ready;
use super::record::{BanRecord, LoggingRecord, Record, ResourceHeader, RoomRecord, RuleSetRecord};
use super::state::Control;
use crate::clock;
use crate::random;
use crate::shard::command::{Command, Refused};
use crate::shard::frames;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::EMULATOR_RESET_CALLS;

impl Control {
    async fn reset_rules(&self) -> Result<(), Fault> {
        for id in self.registry.rule_sets.each(RuleSetRecord::id) {
            self.registry.remove_rule_set(id).await?;
        }
        self.gateway.shared().rules.clear();
        Ok(())
    }

    /// Brings the server back to its start: the ready rooms alone, as new; no viewer, no logging configuration, new
    /// sealing keys, full budgets, the machine's wall clock, with `--seed` the first ids again. Counters of `/metrics` go on.
    /// Returns the ARNs of the ready rooms by their names.
    pub(super) async fn reset(
        self: &Rc<Self>,
        emulator: &Emulator,
    ) -> Result<BTreeMap<String, String>, EmulatorFault> {
        let _alone = emulator.alone.lock().await;
        // First, so that nobody comes back with a token of before.
        (emulator.rekey)().map_err(EmulatorFault::Keys)?;
        clock::follow_machine();
        self.throttle.refill();
        let names: BTreeMap<RoomId, String> = emulator.ready.iter().cloned().collect();
        let mut calls = JoinSet::new();
        for id in self.registry.rooms.each(RoomRecord::id) {
            let (control, name) = (Rc::clone(self), names.get(&id).cloned());
            spawn(
                &mut calls,
                async move { control.reset_room(id, name).await },
            )
            .await?;
        }
        finish(&mut calls).await?;
        for id in self.registry.logging.each(LoggingRecord::id) {
            let control = Rc::clone(self);
            let removed = async move {
                let arn = control.settings.account.arn(id);
                control.registry.remove_logging(&arn, id).await?;
                control.settings.archive.remove(id);
                Ok(())
            };
            spawn(&mut calls, removed).await?;
        }
        finish(&mut calls).await?;
        for id in self.registry.bans.each(BanRecord::id) {
            let removed = self.registry.remove_ban(id).await;
            removed.map_err(EmulatorFault::Record)?;
        }
        self.gateway.bans().clear();
        self.reset_rules().await.map_err(EmulatorFault::Record)?;
        if random::repeat_ids_again() {
            for shard in 0..self.gateway.shard_count() {
                let seed =
                    random::id_bytes().map_err(|_none| EmulatorFault::Record(Fault::Internal))?;
                self.gateway
                    .tell(shard, Command::Reseed(u64::from_ne_bytes(seed)));
            }
        }
        frames::forget();
        let mut arns = BTreeMap::new();
        for (id, name) in &emulator.ready {
            if !self.registry.rooms.contains(*id) {
                create_ready(self, *id, name)
                    .await
                    .map_err(EmulatorFault::Record)?;
            }
            arns.insert(name.clone(), self.settings.account.arn(*id));
        }
        Ok(arns)
    }

    /// Cuts a room's viewers; a ready one is then as new under its `name`, another one gone.
    async fn reset_room(&self, id: RoomId, name: Option<String>) -> Result<(), Fault> {
        let Some(name) = name else {
            self.registry.remove_room(id).await?;
            return self.cut_room(id).await;
        };
        let room = self.renew(id, name).await?;
        self.cut_room(id).await?;
        if let Some(room) = room {
            let put = self
                .gateway
                .put_room(id, self.registry.settings_of(&room))
                .await;
            put.map_err(|_refused| Fault::Late)?;
        }
        Ok(())
    }

    /// Makes a room's record as new; `None` if it is gone.
    async fn renew(&self, id: RoomId, name: String) -> Result<Option<RoomRecord>, Fault> {
        let new = |made_ms: u64| {
            let mut header = ResourceHeader::new(id, made_ms);
            header.name = Some(name.clone());
            RoomRecord::new(header)
        };
        // Most tests leave it as it is, and then nothing waits for the disk.
        let known = self.registry.rooms.get(id);
        if let Some(known) = known.filter(|known| *known == new(known.header.created_ms)) {
            return Ok(Some(known));
        }
        let now = self.clock.now().unix.millis();
        let renewed = self.registry.edit(id, |room: &mut RoomRecord| {
            *room = new(now);
            Ok(())
        });
        renewed.await
    }

    async fn cut_room(&self, id: RoomId) -> Result<(), Fault> {
        match self.gateway.delete_room(id).await {
            Err(Refused::Late) => Err(Fault::Late),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Starts a call, once fewer than [`EMULATOR_RESET_CALLS`] are in progress.
async fn spawn(
    calls: &mut JoinSet<Result<(), Fault>>,
    call: impl Future<Output = Result<(), Fault>> + 'static,
) -> Result<(), EmulatorFault> {
    if calls.len() >= EMULATOR_RESET_CALLS {
        next(calls).await?;
    }
    calls.spawn_local(call);
    Ok(())
}

async fn finish(calls: &mut JoinSet<Result<(), Fault>>) -> Result<(), EmulatorFault> {
    while !calls.is_empty() {
        next(calls).await?;
    }
    Ok(())
}

async fn next(calls: &mut JoinSet<Result<(), Fault>>) -> Result<(), EmulatorFault> {
    match calls.join_next().await {
        Some(Ok(done)) => done.map_err(EmulatorFault::Record),
        Some(Err(_ended)) => Err(EmulatorFault::Record(Fault::Internal)),
        None => Ok(()),
    }
}
