//! The first bytes of a connection, as far as they have arrived.

use std::net::IpAddr;

use super::acceptor::Acceptor;
use super::rejected::NoUpgrade;
use super::upgrade::{AcceptedUpgrade, examine};
use crate::net::stream::Hosted;
use uproar_proto::base::admission::Holder;
use uproar_proto::base::clock::Tick;
use uproar_proto::http::HeadScanner;
use uproar_proto::proxy::{self, Preface, PrefaceFault};

/// The bytes that a connection has sent so far, and why they open no connection if that is known.
pub(crate) struct PartialRequest {
    /// The peer's address; the client's once a trusted proxy has named it.
    pub(super) ip: IpAddr,
    /// Whether a PROXY header may come first, before TLS: the peer is a trusted proxy whose header is not whole yet.
    pub(super) is_prefaced: bool,
    /// What follows the PROXY header; with one incomplete, everything.
    pub(super) received: Vec<u8>,
    /// Has scanned `received`, but for ciphertext.
    pub(super) scanner: HeadScanner,
    pub(super) decided: Option<NoUpgrade>,
    /// When it was accepted.
    pub(super) accepted: Tick,
}

impl PartialRequest {
    /// A connection from `ip` that has sent nothing yet.
    pub(crate) fn new<B: Hosted>(ip: IpAddr, acceptor: &Acceptor<B>) -> Self {
        Self {
            ip,
            is_prefaced: acceptor.settings().limits.trusted.trusts(ip),
            received: Vec::new(),
            scanner: HeadScanner::default(),
            decided: None,
            accepted: acceptor.clock.now().tick,
        }
    }

    /// The holder whose share it counts against; `None` until a trusted proxy has named the client.
    pub(crate) fn holder(&self) -> Option<Holder> {
        (!self.is_prefaced).then(|| Holder::of(self.ip))
    }

    /// Judges the first bytes of a connection without TLS; returns the accepted upgrade if they hold a complete
    /// valid request. Otherwise they are kept for the handshake's task.
    pub(crate) fn first_read<B: Hosted>(
        &mut self,
        received: &[u8],
        acceptor: &Acceptor<B>,
    ) -> Option<AcceptedUpgrade> {
        let start = match self.take_preface(received) {
            Ok(Some(start)) => start,
            Ok(None) => {
                self.received = received.to_vec();
                return None;
            }
            Err(fault) => {
                self.decided = Some(NoUpgrade::Rejected(fault.into()));
                return None;
            }
        };
        let received = &received[start..];
        match examine(&mut self.scanner, received, acceptor, &mut self.ip) {
            Ok(Some(upgrade)) => {
                return Some(AcceptedUpgrade {
                    accepted: self.accepted,
                    ..upgrade
                });
            }
            Ok(None) => {}
            Err(decided) => self.decided = Some(decided),
        }
        self.received = received.to_vec();
        None
    }

    /// Parses the PROXY header at the start of `received`, all bytes so far. Returns where the client's bytes
    /// begin; `None` until that is known.
    ///
    /// # Errors
    ///
    /// The header is malformed.
    pub(super) fn take_preface(&mut self, received: &[u8]) -> Result<Option<usize>, PrefaceFault> {
        if !self.is_prefaced {
            return Ok(Some(0));
        }
        let start = match proxy::preface(received)? {
            Preface::Incomplete => return Ok(None),
            Preface::Absent => 0,
            Preface::Header { len, source } => {
                self.ip = source.unwrap_or(self.ip);
                len
            }
        };
        self.is_prefaced = false;
        Ok(Some(start))
    }

    /// Whether the request was refused and its address was refused too often lately to get an answer.
    pub(crate) fn gets_no_answer<B: Hosted>(&self, acceptor: &Acceptor<B>) -> bool {
        let Some(NoUpgrade::Rejected(rejected)) = &self.decided else {
            return false;
        };
        if rejected.status().is_none() || acceptor.is_answered(self.ip) {
            return false;
        }
        rejected.figure(&acceptor.shard.metrics).inc();
        true
    }
}
