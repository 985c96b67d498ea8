//! Session tickets: a client that comes back shakes hands without a certificate and its signature (RFC 8446 §4.6.1,
//! RFC 5077).
//!
//! All shards have the same keys, and the next process of an upgrade gets them, so that a client resumes wherever the kernel
//! leads it. The nodes of a cluster have keys of their own each: tickets of a common secret, which lies in a file for years,
//! would open what was recorded over TLS 1.2 in those years.

mod keys;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::{TICKET_KEY_PERIOD, TICKET_KEYS_BYTES_MAX, TICKETS_A_HANDSHAKE};
use zeroize::Zeroizing;

use self::keys::{DRAWN_BYTES, Drawn, NONCE_BYTES, TicketKeys};
use crate::net::sealed::{seal, unseal};
use crate::random;

/// Makes and opens the tickets of all handshakes of this process.
pub(super) struct Tickets(ArcSwap<TicketKeys>);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// With a new key.
    ///
    /// # Errors
    ///
    /// The kernel gives no random bytes.
    pub(super) fn new(now: Tick) -> io::Result<Arc<Self>> {
        let keys = TicketKeys::new(draw()?, now);
        Ok(Arc::new(Self(ArcSwap::from_pointee(keys))))
    }

    /// With the keys of the process before this one. If they cannot be read, with a new one: clients shake hands in full.
    ///
    /// # Errors
    ///
    /// The kernel gives no random bytes.
    pub(super) fn inherited(file: OwnedFd, now: Tick) -> io::Result<Arc<Self>> {
        let read = unseal(file, TICKET_KEYS_BYTES_MAX).map_err(|error| error.to_string());
        let read = read.and_then(|bytes| {
            let bytes = Zeroizing::new(bytes);
            TicketKeys::inherit(&bytes, now).map_err(|fault| fault.to_string())
        });
        match read {
            Ok(keys) => Ok(Arc::new(Self(ArcSwap::from_pointee(keys)))),
            Err(error) => {
                tracing::warn!(%error, "TLS session tickets of the old process are not taken over");
                Self::new(now)
            }
        }
    }

    /// The keys, in memory, for the process after this one.
    ///
    /// # Errors
    ///
    /// No descriptor or memory is available.
    pub(super) fn hand_over(&self, now: Tick) -> io::Result<OwnedFd> {
        seal("uproar tickets", &[&self.0.load().carry(now)])
    }

    /// Goes on to the next key if it is time. One thread calls it, every second or so.
    pub(super) fn rotate(&self, now: Tick) {
        match self.0.load().rotated(now, draw) {
            Ok(Some(next)) => {
                self.0.store(Arc::new(next));
                tracing::info!("TLS session tickets have another key");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the key of TLS session tickets stays: no random bytes for another");
            }
        }
    }

    /// Connections of this configuration send and take tickets.
    pub(super) fn serve(self: &Arc<Self>, config: &mut ServerConfig) {
        config.ticketer = Arc::<Self>::clone(self);
        config.send_tls13_tickets = TICKETS_A_HANDSHAKE;
        // For the few clients of TLS 1.2 that take no tickets: nothing is kept for who is away.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Data ahead of the handshake could be sent again by anybody who has recorded it, a token among it.
        config.max_early_data_size = 0;
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TICKET_KEY_PERIOD.as_secs()).expect("some hours")
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = random::bytes::<NONCE_BYTES>().ok()?;
        self.0.load().seal(nonce, plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.load().open(cipher)
    }
}

fn draw() -> io::Result<Drawn> {
    let mut drawn = Zeroizing::new([0; DRAWN_BYTES]);
    random::fill(&mut drawn[..])?;
    Ok(drawn)
}
