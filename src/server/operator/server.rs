//! The server itself, as its operator sees it: what it runs as, its certificate, where its chat logs go, and what
//! of the machine should be changed.

use std::rc::Rc;

use serde_json::{Value, json};

use super::{History, Operator, refused};
use crate::control::archive::Archive;
use crate::doctor::facts::Facts as Machine;
use crate::doctor::host::Host;
use crate::doctor::{Target, Verdict, examine};
use crate::server::ChosenIo;
use crate::server::admin::{DrainOrder, Refusal, RefusalCode};
use crate::server::tls::LiveTls;
use crate::server::upgrade::Figures as TakeOvers;

/// What is told of beside rooms and shards.
pub(in crate::server) struct Facts {
    pub(in crate::server) io: ChosenIo,
    pub(in crate::server) tls: LiveTls,
    pub(in crate::server) archive: Archive,
    pub(in crate::server) take_overs: Rc<TakeOvers>,
    /// None while the operator's page is switched off.
    pub(in crate::server) history: Option<Rc<History>>,
}

impl Operator {
    /// Tells how the server has done of late.
    pub(super) fn history(&self, after: Option<u32>) -> Result<Value, Refusal> {
        let history = self.facts.history.as_ref();
        let history = history.ok_or_else(|| {
            refused("no history is kept while control.console is false; see /metrics")
        })?;
        Ok(history.tell(after))
    }

    /// Tells of the server itself. The machine is looked at on another thread: some files of the kernel are slow.
    pub(super) async fn server(self) -> Result<Value, Refusal> {
        let (warnings, descriptors) = self.warnings().await?;
        Ok(json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("UPROAR_COMMIT"),
            "io": self.facts.io.kind.name(),
            "io_uring_refused": self.facts.io.refused,
            "shards": self.shards.len(),
            "viewers_max": self.control.viewers_max(),
            "open_files_max": descriptors,
            "certificate": self.certificate(),
            "logs": self.facts.archive.metrics().summary(),
            "take_overs": self.facts.take_overs.summary(),
            "drain": self.drain_preview(),
            "warnings": warnings,
        }))
    }

    /// What a drain would do now by the configuration, or why it would be refused.
    fn drain_preview(&self) -> Value {
        match self.drains.plan(&DrainOrder::default()) {
            Ok(plan) => json!(plan.begun(self.control.token_rate())),
            Err(refusal) => json!({ "refused": refusal.message }),
        }
    }

    /// The one that clients refuse first, of several. Null without TLS.
    fn certificate(&self) -> Value {
        let listeners = self.facts.tls.borrow();
        let Some(certificates) = &listeners.certificates else {
            return Value::Null;
        };
        let mut told = match certificates.soonest() {
            Ok(validity) => validity.summary(self.control.now().unix),
            Err(error) => json!({ "warning": crate::server::certificate::unreadable(&error) }),
        };
        told["messaging"] = listeners.messaging.is_some().into();
        told["control"] = listeners.control.is_some().into();
        told
    }

    /// What `uproar doctor` would have changed for as many viewers as the server takes; and its limit on open files.
    async fn warnings(&self) -> Result<(Vec<Value>, Option<u64>), Refusal> {
        let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let target = Target {
            connections: whole(self.control.viewers_max()),
            shards: whole(self.shards.len()),
            io: self.facts.io.kind,
            opens: false,
        };
        let looked = tokio::task::spawn_blocking(move || {
            let machine = Machine::read(&Host, "self");
            let mut findings = examine(&machine, &target);
            // What could not be read is no warning, and the rings run already.
            findings.retain(|finding| finding.verdict == Verdict::Change);
            let findings = findings.iter().map(|finding| json!(finding));
            (findings.collect(), machine.nofile.map(|limit| limit.soft))
        });
        looked.await.map_err(|error| {
            Refusal::new(
                RefusalCode::Failed,
                format!("the machine was not looked at: {error}"),
            )
        })
    }
}
