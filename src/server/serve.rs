//! The control thread from its start to the server's end.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::LocalSet;

use super::process_metrics::ProcessMetrics;
use super::{Process, Ready, StartError, demo, reload, tls};
use crate::clock::Clock;
use crate::config::{DEV_ROOM, DEV_ROOM_ID, Running, Settings};
use crate::control::access::Keys;
use crate::control::archive::ArchiveThread;
use crate::control::registry::Registry;
use crate::control::review::{ReviewMetrics, Reviews};
use crate::control::{Control, ControlSettings, Metrics};
use crate::durable::Watched;
use crate::logging;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::LiveKeyring;
use crate::shard::mesh::Shards;
use crate::shard::metrics;
use crate::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;

/// Everything the control thread needs.
pub(super) struct Serving {
    pub(super) process: Process,
    pub(super) supervisor: Supervisor,
    pub(super) settings: Settings,
    pub(super) running: Running,
    pub(super) shards: Shards,
    pub(super) keyring: LiveKeyring,
    pub(super) keyring_file: Watched<1>,
    pub(super) certificate: Option<Arc<tls::LiveCertificate>>,
    pub(super) clock: Clock,
    pub(super) registry: Registry,
    pub(super) archive: ArchiveThread,
    pub(super) keys: Keys,
    pub(super) pages: Option<Arc<demo::Demo>>,
}

/// The control listener, with the addresses to announce.
pub(super) struct ControlListener {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) address: SocketAddr,
    // Whether the messaging listener uses TLS.
    pub(super) messaging_tls: bool,
}

impl Serving {
    /// Serves until the process is told to stop, or a task that must not end does; then ends the other threads.
    pub(super) fn run(
        mut self,
        listener: ControlListener,
        on_ready: impl FnOnce(&Ready),
    ) -> Result<(), StartError> {
        let Process {
            runtime,
            mut stop,
            hangup,
        } = self.process;
        let reloads = Arc::new(reload::Reloads::default());
        let watch = reload::Watch::new(
            self.settings.data_dir,
            self.running,
            (Arc::clone(&self.keyring), self.keyring_file),
            self.certificate.clone(),
            Arc::clone(&reloads),
        );
        let mailboxes = std::mem::take(&mut self.shards.mailboxes);
        let gateway = Gateway::new(mailboxes, self.settings.shard.clone());
        let reviews = self.shards.reviews.take();
        let review_receivers = reviews.expect("every mesh has one, and it is taken once");
        let review_metrics = Rc::new(ReviewMetrics::default());
        let figures = Figures {
            shards: self.shards.metrics.clone(),
            reloads,
            certificate: self.certificate,
            reviews: Rc::clone(&review_metrics),
            supervisor: self.supervisor.clone(),
            process: ProcessMetrics::new(),
        };
        let control_settings = ControlSettings {
            account: self.settings.account,
            keys: self.keys,
            rates: self.settings.api_rates,
            token_life: self.settings.token_life,
            archive: self.archive.archive(),
            admission: self.settings.control_admission,
            supervisor: self.supervisor,
        };
        let review_timeout = self.settings.shard.review_timeout;
        let ready = Arc::new(AtomicBool::new(false));
        let outcome = LocalSet::new().block_on(&runtime, async {
            let control = Control::new(
                control_settings,
                self.registry,
                gateway.clone(),
                self.keyring,
                self.clock,
                Arc::clone(&ready),
                figures.rendered(),
            );
            let (settings, at_most) = (self.settings.review, review_timeout);
            let reviews = Reviews::new(Rc::clone(&control), settings, at_most, review_metrics)
                .map_err(StartError::Certificates)?;
            let room = ready_room(&control, self.pages.as_deref(), listener.address).await?;
            if stop.is_requested().await {
                tracing::info!("stopped before anybody was accepted");
                return Ok(());
            }
            self.shards.open();
            ready.store(true, Ordering::Release);
            listener.announce(self.shards.address, room, on_ready);
            let ControlListener { listener, tls, .. } = listener;
            let serving = Rc::clone(&control).serve(listener, tls, stop.requested());
            // The control thread's tasks that must not end.
            let served = tokio::select! {
                served = serving => served.map_err(StartError::Runtime),
                never = watch.run(hangup, self.clock) => match never {},
                failed = reviews.serve(review_receivers) => match failed {
                    Err(cause) => Err(StartError::Task { task: "reviews", cause }),
                },
            };
            tracing::info!(
                "stopping: connections are cut without a Close frame, so that clients reconnect"
            );
            served
        });
        // Also after a failed start: the shards run already.
        gateway.stop();
        self.shards.join();
        self.archive.stop();
        outcome
    }
}

/// Makes the room of `uproar dev`, and returns its ARN.
async fn ready_room(
    control: &Rc<Control>,
    pages: Option<&demo::Demo>,
    address: SocketAddr,
) -> Result<Option<String>, StartError> {
    let Some(pages) = pages else {
        return Ok(None);
    };
    let id = RoomId::parse(DEV_ROOM_ID).expect("twelve letters and digits");
    let arn = control
        .ready_room(id, DEV_ROOM)
        .await
        .map_err(|fault| StartError::Room(format!("{fault:?}")))?;
    pages.set_room(&arn, address);
    Ok(Some(arn))
}

impl ControlListener {
    /// Tells the caller of the start both addresses, and logs them.
    fn announce(&self, messaging: SocketAddr, room: Option<String>, on_ready: impl FnOnce(&Ready)) {
        let (tls, control_tls) = (self.messaging_tls, self.tls.is_some());
        on_ready(&Ready {
            messaging,
            control: self.address,
            messaging_tls: tls,
            control_tls,
            room,
        });
        tracing::info!(%messaging, control = %self.address, tls, control_tls, "ready");
    }
}

/// Everything that `/metrics` shows beside the control thread's own counters.
struct Figures {
    shards: Vec<Arc<metrics::ShardMetrics>>,
    reloads: Arc<reload::Reloads>,
    certificate: Option<Arc<tls::LiveCertificate>>,
    reviews: Rc<ReviewMetrics>,
    supervisor: Supervisor,
    process: ProcessMetrics,
}

impl Figures {
    fn rendered(self) -> Metrics {
        Box::new(move |out| {
            metrics::render(&self.shards, out);
            self.reloads.render(out);
            if let Some(certificate) = &self.certificate {
                certificate.render(out);
            }
            self.reviews.render(out);
            self.supervisor.render(out);
            logging::render(out);
            self.process.render(out);
        })
    }
}
