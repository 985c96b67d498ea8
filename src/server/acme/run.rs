//! The task: looks whether an order is due, makes it, and keeps and presents what comes of it.

use std::convert::Infallible;
use std::fs::File;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::caller::Caller;
use super::challenges::Challenges;
use super::fault::Fault;
use super::figures::Figures;
use super::order::{Issued, missing, order};
use super::schedule::{renewal, wait};
use super::state::Kept;
use crate::clock::Clock;
use crate::config::AcmeSettings;
use crate::control::Control;
use crate::random;
use crate::server::tls::{LiveCertificates, LiveTls};
use crate::supervisor::blocking;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::limits::{ACME_ORDER_INTERVAL_MIN, ACME_UNREACHABLE_WAIT};

/// Interval of the looks. They read a date in memory.
const LOOK: Duration = Duration::from_secs(1);

/// Where the ordered certificate stands among the listeners'.
const PLACE: usize = 0;

/// What is to be ordered, and what the task works with beside the control plane.
#[derive(Clone)]
pub(in crate::server) struct Wanted {
    settings: AcmeSettings,
    challenges: Arc<Challenges>,
    tls: LiveTls,
    /// For `/metrics`.
    pub(in crate::server) figures: Rc<Figures>,
    clock: Clock,
}

impl Wanted {
    /// Those of a server, if its configuration has any.
    pub(in crate::server) fn of(
        settings: Option<&AcmeSettings>,
        tls: &LiveTls,
        clock: Clock,
    ) -> Option<Self> {
        let challenges = tls.borrow().challenges.clone();
        let (settings, challenges) = settings.cloned().zip(challenges)?;
        Some(Self {
            settings,
            challenges,
            tls: Rc::clone(tls),
            figures: Rc::default(),
            clock,
        })
    }
}

/// Orders certificates as long as the server runs, if it is to.
pub(in crate::server) async fn run(orders: Option<Wanted>, control: &Control) -> Infallible {
    match orders {
        Some(orders) => Acme::new(orders, control).run().await,
        None => pending().await,
    }
}

/// Orders certificates for one server.
struct Acme<'a> {
    parts: Wanted,
    control: &'a Control,
    kept: Kept,
    // No attempt before.
    hold: Tick,
    failures: u32,
    // Decides how late within its span a certificate is renewed.
    draw: f64,
    // Issued, and not on disk: the authority is not asked for another one meanwhile.
    unkept: Option<Zeroizing<Vec<u8>>>,
    // The last reason, for `/readyz`.
    reason: Option<String>,
}

/// What came of an attempt that was made.
enum Outcome {
    /// With the right to order, which is held until it is kept.
    Issued(Box<Issued>, File),
    /// Another process has the right to order now.
    Busy,
    /// Another process has ordered what was due.
    Found,
}

impl<'a> Acme<'a> {
    fn new(parts: Wanted, control: &'a Control) -> Self {
        let now = parts.clock.now();
        let mut acme = Self {
            kept: Kept::of(&parts.settings),
            hold: now.tick,
            failures: 0,
            draw: draw(),
            unkept: None,
            reason: None,
            parts,
            control,
        };
        acme.remember();
        // Before anybody can ask whether the server is ready.
        acme.show(now);
        acme
    }

    /// Orders as long as the server runs.
    async fn run(mut self) -> Infallible {
        loop {
            let now = self.parts.clock.now();
            if now.tick >= self.hold {
                if self.unkept.is_some() {
                    self.keep(now).await;
                } else if self.is_due(now) {
                    self.attempt(now).await;
                }
            }
            self.show(self.parts.clock.now());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Goes on waiting where the process before this one was.
    fn remember(&mut self) {
        let now = self.parts.clock.now();
        let (failures, wait) = self.kept.attempts(now.unix);
        self.failures = failures;
        self.parts.figures.failures.set(failures);
        self.hold = now.tick.after(wait);
        if self.is_due(now) && !wait.is_zero() {
            let file = self.kept.attempt_file().display();
            tracing::warn!(
                wait_s = wait.as_secs(), %file,
                "TLS: the last order failed, and the next one waits; without the file it does not"
            );
        }
    }

    fn certificates(&self) -> Option<Arc<LiveCertificates>> {
        self.parts.tls.borrow().certificates.clone()
    }

    /// Whether there is no certificate, one for other names, or one that is to be renewed.
    fn is_due(&self, now: Now) -> bool {
        let Some(certificates) = self.certificates() else {
            return false;
        };
        let is_for_all = certificates.current(PLACE).is_some_and(|current| {
            let domains = &self.parts.settings.domains;
            missing(&current.cert, domains).is_none()
        });
        let validity = certificates.validity(PLACE);
        !is_for_all || validity.is_ok_and(|validity| now.unix >= renewal(&validity, self.draw))
    }

    /// Tells `/readyz` and `/metrics` how it stands.
    fn show(&self, now: Now) {
        let certificates = self.certificates();
        let has_one = (certificates.as_ref()).is_some_and(|all| all.current(PLACE).is_some());
        let awaited = (!has_one).then(|| {
            let reason = self.reason.as_deref().unwrap_or("it is being ordered");
            format!("there is no certificate yet: {reason}")
        });
        self.control.await_certificate(awaited);
        let held = now.unix.after(self.hold.since(now.tick));
        let validity = certificates.and_then(|all| all.validity(PLACE).ok());
        let next = validity.map_or(held, |validity| renewal(&validity, self.draw).max(held));
        self.parts.figures.next.set(Some(next));
    }

    async fn attempt(&mut self, now: Now) {
        let caller = {
            let root = self.parts.settings.root.clone();
            blocking(move || Caller::new(root.as_deref())).await
        };
        let (outcome, asked) = match caller {
            Ok(caller) => (self.ordered(now, &caller).await, caller.retry_after()),
            Err(error) => {
                let text = format!("who signed the authority's certificate: {error}");
                (Err(Fault::here(text)), None)
            }
        };
        let now = self.parts.clock.now();
        match outcome {
            Ok(Outcome::Issued(issued, _right)) => self.issued(*issued, now).await,
            Ok(Outcome::Busy) => self.hold = now.tick.after(ACME_UNREACHABLE_WAIT / 2),
            Ok(Outcome::Found) => self.hold = now.tick.after(ACME_ORDER_INTERVAL_MIN),
            Err(mut fault) => {
                fault.retry_after = asked;
                self.failed(&fault, now).await;
            }
        }
    }

    /// Orders, with the right to.
    async fn ordered(&mut self, now: Now, caller: &Caller) -> Result<Outcome, Fault> {
        let unkept = |error| {
            Fault::here(format!(
                "nothing is ordered that could not be kept: {error}"
            ))
        };
        let kept = self.kept.clone();
        let Some(right) = blocking(move || kept.lock()).await.map_err(unkept)? else {
            return Ok(Outcome::Busy);
        };
        // Looked at only now: whoever had the right may have used it.
        if self.found(now).await {
            return Ok(Outcome::Found);
        }
        let (kept, failures) = (self.kept.clone(), self.failures.saturating_add(1));
        // A process that ends during the order has made an attempt, too.
        let pause =
            ACME_ORDER_INTERVAL_MIN.saturating_mul(2_u32.saturating_pow(self.failures.min(8)));
        let noted = blocking(move || kept.note(failures, now.unix, pause)).await;
        noted.map_err(unkept)?;
        let (settings, challenges) = (&self.parts.settings, &self.parts.challenges);
        let names = settings.domains.join(", ");
        tracing::info!(%names, directory = settings.directory, "TLS: a certificate is ordered");
        let issued = order(settings, &self.kept, challenges, caller).await;
        Ok(Outcome::Issued(Box::new(issued?), right))
    }

    /// Presents what another process has ordered, if that is not due.
    async fn found(&self, now: Now) -> bool {
        let Some(certificates) = self.certificates() else {
            return false;
        };
        let read = Arc::clone(&certificates);
        // A damaged file is replaced by what is ordered.
        let read = blocking(move || Ok(read.read_again(PLACE).ok().flatten())).await;
        if let Ok(Some((certified, _watched))) = read {
            certificates.present(PLACE, certified);
        }
        !self.is_due(now)
    }

    async fn issued(&mut self, issued: Issued, now: Now) {
        self.parts.figures.issued();
        (self.failures, self.reason) = (0, None);
        self.hold = now.tick.after(ACME_ORDER_INTERVAL_MIN);
        let names = self.parts.settings.domains.join(", ");
        if let Some(certificates) = self.certificates() {
            certificates.present(PLACE, issued.certified);
            let ends = certificates.validity(PLACE).ok();
            let not_after = ends.map(|validity| validity.not_after().rfc3339());
            tracing::info!(%names, not_after, "TLS: a certificate is issued, and presented from now on");
        }
        self.unkept = Some(issued.pem);
        self.keep(now).await;
    }

    /// Puts on disk what is only in memory, or tries again later.
    async fn keep(&mut self, now: Now) {
        let Some(pem) = self.unkept.clone() else {
            return;
        };
        let kept = self.kept.clone();
        let stored = blocking(move || {
            kept.keep_certificate(&pem)?;
            kept.note(0, now.unix, Duration::ZERO)
        });
        match stored.await {
            Ok(()) => self.unkept = None,
            Err(error) => {
                self.hold = now.tick.after(ACME_ORDER_INTERVAL_MIN);
                tracing::error!(
                    %error,
                    "TLS: the new certificate cannot be kept, and is lost with this process; tried again each minute"
                );
            }
        }
    }

    async fn failed(&mut self, fault: &Fault, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(fault.text.clone());
        let wait = wait(fault, self.failures, draw());
        self.hold = now.tick.after(wait);
        let (kept, failures) = (self.kept.clone(), self.failures);
        // A disk that takes nothing is what this fault may be about.
        let _unnoted = blocking(move || kept.note(failures, now.unix, wait)).await;
        // Counted in the turn that tells `/readyz` the reason: whoever sees the count finds the reason there.
        self.parts.figures.failed(fault.kind);
        let validity = self.certificates().and_then(|all| all.validity(PLACE).ok());
        let left = validity.map(|validity| validity.not_after().since(now.unix).as_secs() / 86_400);
        tracing::warn!(
            error = fault.text,
            failures = self.failures,
            next_s = wait.as_secs(),
            days_left = left,
            "TLS: no certificate is issued"
        );
    }
}

/// A number between 0 and 1.
fn draw() -> f64 {
    // Without randomness all servers draw the same, and renew their certificates all the same.
    let [byte] = random::bytes::<1>().unwrap_or_default();
    f64::from(byte) / 255.0
}
