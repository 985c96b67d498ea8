//! TLS 1.3 records of an established connection (RFC 8446 §5): sealed in the send buffer, opened in the receive buffer.
//!
//! Owns: both traffic secrets and what counts records under them. Never: handshakes, which are rustls'.
//!
//! Keys are kept without their schedule, which is 0.6 KB and made in 0.1 µs: once for each batch that is sent or
//! received, where a send alone takes 4 µs.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::traffic::{SEAL_LIMIT, Suite, Traffic};
use uproar_proto::base::limits::TLS_EMPTY_RECORDS_MAX;
use uproar_proto::tagged::{Fault, Fields, Tagged};

/// Bytes of content that a record carries.
pub(super) const CONTENT_MAX: usize = 1 << 14;
/// Type, version, length.
const HEADER: usize = 5;
/// The type of the content, behind it.
const INNER_TYPE: usize = 1;
const TAG: usize = 16;
/// The longest sealed body that is taken: content, its type or padding, and what a suite may add.
const BODY_MAX: usize = CONTENT_MAX + 256;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
/// A whole KeyUpdate message, but for its last byte: type 24, one byte long.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

// The fields of a connection on its way to another process.
/// RFC 8446, appendix B.4.
const SUITE: u32 = 1;
/// The secret of what we send, and the records that were sealed under it.
const SENT_SECRET: u32 = 2;
const SENT: u32 = 3;
/// The same of what we receive.
const RECEIVED_SECRET: u32 = 4;
const RECEIVED: u32 = 5;
/// Bytes of a KeyUpdate message whose rest is in the next record.
const BEGUN: u32 = 6;

/// Why the peer's records are not taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It was not sealed by the peer's key and number, or was changed on the way.
    #[error("a record is not the peer's")]
    Forged,
    /// Longer than a record may be.
    #[error("a record is longer than 16 KiB")]
    TooLong,
    /// What has no place behind a handshake.
    #[error("a record has {0}, which has no place here")]
    Unexpected(&'static str),
    /// A KeyUpdate that says neither yes nor no.
    #[error("a KeyUpdate asks for {0}")]
    KeyUpdate(u8),
    /// The peer gave up.
    #[error("the peer's alert {0}")]
    Alert(u8),
    /// The key sealed what it may.
    #[error("the keys are used up")]
    UsedUp,
}

impl RecordFault {
    /// The alert that tells the peer (RFC 8446 §6.2).
    fn alert(self) -> Option<u8> {
        match self {
            Self::Unexpected(_) => Some(10),
            Self::Forged => Some(20),
            Self::TooLong => Some(22),
            Self::KeyUpdate(_) => Some(47),
            Self::Alert(_) | Self::UsedUp => None,
        }
    }
}

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    /// Bytes of whole records.
    pub(super) used: usize,
    /// The peer says nothing more.
    pub(super) is_closed: bool,
}

/// Both directions of a connection.
pub(super) struct Records {
    sealer: Sealer,
    opener: Opener,
}

/// What we send.
struct Sealer {
    traffic: Traffic,
    key: Zeroizing<[u8; 32]>,
    iv: [u8; 12],
}

/// What we receive.
struct Opener {
    traffic: Traffic,
    key: Zeroizing<[u8; 32]>,
    iv: [u8; 12],
    // The first bytes of a KeyUpdate message whose rest is in the next record.
    begun: u8,
    // Records in a row that carried nothing, which costs us and not the peer.
    empty: u8,
    is_closed: bool,
}

impl Records {
    pub(super) fn new(sent: Traffic, received: Traffic) -> Self {
        Self {
            sealer: Sealer::new(sent),
            opener: Opener::new(received),
        }
    }

    /// Writes what another process needs to go on, which this one must not do then: with the next record it would use
    /// a nonce of the other's.
    pub(super) fn carry(&self, fields: &mut Fields) {
        let Self { sealer, opener } = self;
        fields.number(SUITE, sealer.traffic.suite().number());
        fields.bytes(SENT_SECRET, sealer.traffic.secret());
        fields.number(SENT, sealer.traffic.sequence());
        fields.bytes(RECEIVED_SECRET, opener.traffic.secret());
        fields.number(RECEIVED, opener.traffic.sequence());
        fields.number(BEGUN, u64::from(opener.begun));
    }

    /// Goes on where another process was.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no connection has.
    pub(super) fn inherit(fields: Tagged<'_>) -> Result<Self, Fault> {
        let suite = Suite::numbered(fields.need_number(SUITE)?).ok_or(Fault::Value(SUITE))?;
        let traffic = |secret, sequence| {
            let bytes = fields.get(secret).ok_or(Fault::Missing(secret))?;
            let traffic = Traffic::new(suite, bytes, fields.need_number(sequence)?);
            traffic.ok_or(Fault::Value(secret))
        };
        let mut records = Self::new(
            traffic(SENT_SECRET, SENT)?,
            traffic(RECEIVED_SECRET, RECEIVED)?,
        );
        let begun = u8::try_from(fields.need_number(BEGUN)?).ok();
        let begun = begun.filter(|begun| usize::from(*begun) <= KEY_UPDATE.len());
        records.opener.begun = begun.ok_or(Fault::Value(BEGUN))?;
        Ok(records)
    }

    /// Begins records at the end of `out`.
    pub(super) fn writer<'a>(&'a mut self, out: &'a mut Vec<u8>) -> Writer<'a> {
        let start = out.len();
        Writer {
            key: self.sealer.ready(),
            sealer: &mut self.sealer,
            out,
            start,
            fault: None,
        }
    }

    /// Appends a `close_notify` alert.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        // Who has used up the keys is cut without it.
        let _best_effort = self.sealer.seal(ALERT, &[1, CLOSE_NOTIFY], out);
    }

    #[cfg(test)]
    pub(super) fn seal(
        &mut self,
        kind: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordFault> {
        self.sealer.seal(kind, content, out)
    }

    #[cfg(test)]
    pub(super) fn update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordFault> {
        self.sealer.update(out)
    }

    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        self.sealer.traffic.use_up();
    }

    #[cfg(test)]
    pub(super) fn sealed(&self) -> u64 {
        self.sealer.traffic.sequence()
    }

    /// Opens the whole records of `sealed`, in place; appends their content to `plain` and what must be answered to `out`.
    ///
    /// # Errors
    ///
    /// A record that is not taken; `out` has the alert that says so.
    pub(super) fn open(
        &mut self,
        sealed: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordFault> {
        let opened = self.opener.open_all(sealed, plain);
        match opened {
            Ok((opened, is_update_asked)) => {
                if is_update_asked {
                    self.sealer.update(out)?;
                }
                Ok(opened)
            }
            Err(fault) => {
                if let Some(alert) = fault.alert() {
                    let _best_effort = self.sealer.seal(ALERT, &[2, alert], out);
                }
                Err(fault)
            }
        }
    }
}

/// Fills records of 16 KiB, each sealed where it stands.
pub(super) struct Writer<'a> {
    sealer: &'a mut Sealer,
    key: LessSafeKey,
    out: &'a mut Vec<u8>,
    // Where the record that is being filled begins; the end of `out` if none is.
    start: usize,
    fault: Option<RecordFault>,
}

impl Writer<'_> {
    /// Adds content.
    pub(super) fn write(&mut self, mut content: &[u8]) {
        while !content.is_empty() && self.fault.is_none() {
            if self.out.len() == self.start {
                self.begin();
            }
            let space = CONTENT_MAX - (self.out.len() - self.start - HEADER);
            let (fits, rest) = content.split_at(space.min(content.len()));
            self.out.extend_from_slice(fits);
            if fits.len() == space {
                self.end();
            }
            content = rest;
        }
    }

    /// Seals what is left.
    ///
    /// # Errors
    ///
    /// The keys are used up; nobody may be sent what is in the buffer.
    pub(super) fn finish(mut self) -> Result<(), RecordFault> {
        if self.out.len() > self.start {
            self.end();
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn begin(&mut self) {
        if self.sealer.traffic.sequence() >= SEAL_LIMIT {
            self.fault = self.sealer.update(self.out).err();
            self.key = self.sealer.ready();
            self.start = self.out.len();
        }
        self.out.extend_from_slice(&[0; HEADER]);
    }

    fn end(&mut self) {
        self.fault = self
            .sealer
            .seal_here(&self.key, DATA, self.start, self.out)
            .err()
            .or(self.fault);
        self.start = self.out.len();
    }
}

impl Sealer {
    fn new(traffic: Traffic) -> Self {
        let (key, iv) = traffic.key_and_iv();
        Self { traffic, key, iv }
    }

    fn ready(&self) -> LessSafeKey {
        self.traffic.ready(&self.key)
    }

    /// Appends a record of its own.
    fn seal(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), RecordFault> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(content);
        self.seal_here(&self.ready(), kind, start, out)
    }

    /// Seals the content behind the place of a header at `start`, with the key that is ready.
    fn seal_here(
        &mut self,
        key: &LessSafeKey,
        kind: u8,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordFault> {
        let content = out.len() - start - HEADER;
        out.push(kind);
        let body = content + INNER_TYPE + TAG;
        let length = u16::try_from(body).map_err(|_| RecordFault::TooLong)?;
        let [high, low] = length.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        let nonce = self
            .traffic
            .next_nonce(&self.iv)
            .ok_or(RecordFault::UsedUp)?;
        #[cfg(test)]
        once::seal(&self.traffic, nonce);
        let (framed, inner) = out.split_at_mut(start + HEADER);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        let tag = tag.map_err(|_| RecordFault::TooLong)?;
        framed[start..].copy_from_slice(&header);
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Tells the peer that the next key follows, and takes it.
    fn update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordFault> {
        let [a, b, c, d] = KEY_UPDATE;
        self.seal(HANDSHAKE, &[a, b, c, d, 0], out)?;
        let mut traffic = self.traffic.clone();
        traffic.update();
        *self = Self::new(traffic);
        Ok(())
    }
}

impl Opener {
    fn new(traffic: Traffic) -> Self {
        let (key, iv) = traffic.key_and_iv();
        Self {
            traffic,
            key,
            iv,
            begun: 0,
            empty: 0,
            is_closed: false,
        }
    }

    /// Returns also whether the peer asks for our next key.
    fn open_all(
        &mut self,
        sealed: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<(Opened, bool), RecordFault> {
        let mut key = self.traffic.ready(&self.key);
        let (mut used, mut is_update_asked) = (0, false);
        while !self.is_closed
            && let Some(body) = body_length(&sealed[used..])?
        {
            let (header, rest) = sealed[used..].split_at_mut(HEADER);
            let content = self.open(&key, header, &mut rest[..body])?;
            used += HEADER + body;
            let Some((kind, content)) = content else {
                return Err(RecordFault::Unexpected("nothing but padding"));
            };
            match kind {
                DATA => self.take_data(content, plain)?,
                HANDSHAKE => {
                    if let Some(asks) = self.take_handshake(content)? {
                        is_update_asked |= asks;
                        key = self.traffic.ready(&self.key);
                    }
                }
                ALERT => self.take_alert(content)?,
                _ => return Err(RecordFault::Unexpected("a type that nobody knows")),
            }
        }
        if self.is_closed {
            used = sealed.len();
        }
        let is_closed = self.is_closed;
        Ok((Opened { used, is_closed }, is_update_asked))
    }

    /// Opens one record; its type and content, `None` if it has no type.
    fn open<'a>(
        &mut self,
        key: &LessSafeKey,
        header: &[u8],
        body: &'a mut [u8],
    ) -> Result<Option<(u8, &'a [u8])>, RecordFault> {
        let nonce = self
            .traffic
            .next_nonce(&self.iv)
            .ok_or(RecordFault::UsedUp)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let inner = key.open_in_place(nonce, Aad::from(header), body);
        let inner: &[u8] = inner.map_err(|_| RecordFault::Forged)?;
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else {
            return Ok(None);
        };
        if inner.len() > CONTENT_MAX + INNER_TYPE {
            return Err(RecordFault::TooLong);
        }
        Ok(Some((inner[end], &inner[..end])))
    }

    fn take_data(&mut self, content: &[u8], plain: &mut Vec<u8>) -> Result<(), RecordFault> {
        self.must_be_between_messages()?;
        if content.is_empty() {
            self.empty += 1;
            if self.empty > TLS_EMPTY_RECORDS_MAX {
                return Err(RecordFault::Unexpected("nothing, again and again"));
            }
        } else {
            self.empty = 0;
        }
        plain.extend_from_slice(content);
        Ok(())
    }

    /// A client that has shaken hands says nothing but KeyUpdate, in one record or in several, and nothing behind it
    /// before its next key (RFC 8446 §5.1). Returns whether it asks for ours, once the message is whole.
    fn take_handshake(&mut self, content: &[u8]) -> Result<Option<bool>, RecordFault> {
        if content.is_empty() {
            return Err(RecordFault::Unexpected("an empty handshake message"));
        }
        for (place, byte) in content.iter().enumerate() {
            if let Some(wanted) = KEY_UPDATE.get(usize::from(self.begun)) {
                if byte != wanted {
                    return Err(RecordFault::Unexpected("a handshake message"));
                }
                self.begun += 1;
                continue;
            }
            if place + 1 != content.len() {
                return Err(RecordFault::Unexpected("a message behind a KeyUpdate"));
            }
            let asks = match byte {
                0 => false,
                1 => true,
                other => return Err(RecordFault::KeyUpdate(*other)),
            };
            let mut traffic = self.traffic.clone();
            traffic.update();
            *self = Self::new(traffic);
            return Ok(Some(asks));
        }
        Ok(None)
    }

    fn take_alert(&mut self, content: &[u8]) -> Result<(), RecordFault> {
        self.must_be_between_messages()?;
        match *content {
            [_, CLOSE_NOTIFY] => self.is_closed = true,
            [_, USER_CANCELED] => {}
            [_, alert] => return Err(RecordFault::Alert(alert)),
            _ => return Err(RecordFault::Unexpected("half an alert")),
        }
        Ok(())
    }

    fn must_be_between_messages(&self) -> Result<(), RecordFault> {
        if self.begun > 0 {
            return Err(RecordFault::Unexpected(
                "something within a handshake message",
            ));
        }
        Ok(())
    }
}

/// Bytes of a record's body, if `sealed` begins with a whole record.
fn body_length(sealed: &[u8]) -> Result<Option<usize>, RecordFault> {
    let Some(&[kind, _, _, high, low]) = sealed.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    // The version means nothing any more.
    if kind != DATA {
        return Err(RecordFault::Unexpected("content that is not sealed"));
    }
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > BODY_MAX {
        return Err(RecordFault::TooLong);
    }
    Ok((sealed.len() >= HEADER + body).then_some(body))
}

/// Whether bytes begin with a whole record, whatever it is.
pub(super) fn has_record(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk::<HEADER>();
    header.is_some_and(|&[.., high, low]| {
        bytes.len() >= HEADER + usize::from(u16::from_be_bytes([high, low]))
    })
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Traffic {
    /// The key with its schedule.
    fn ready(&self, key: &[u8; 32]) -> LessSafeKey {
        let algorithm = self.suite().aead();
        let key = UnboundKey::new(algorithm, &key[..algorithm.key_len()]);
        LessSafeKey::new(key.expect("as long as the algorithm says"))
    }
}

/// Sealing twice with one key and nonce would tell an eavesdropper both contents: test builds remember every pair.
#[cfg(test)]
mod once {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::Traffic;

    thread_local! {
        static USED: RefCell<HashSet<(Vec<u8>, [u8; 12])>> = RefCell::default();
    }

    pub(super) fn seal(traffic: &Traffic, nonce: [u8; 12]) {
        let key = traffic.key_and_iv().0.to_vec();
        let is_new = USED.with_borrow_mut(|used| used.insert((key, nonce)));
        assert!(is_new, "a key seals twice with one nonce");
    }
}
