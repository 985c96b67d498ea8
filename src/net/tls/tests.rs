//! rustls' client against our server: every suite, any chunks, key updates both ways, and records no client sends.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, KeyLog, NamedGroup, RootCertStore,
    SupportedProtocolVersion,
};
use std::sync::{LazyLock, Mutex};

use super::*;
use crate::net::records::CONTENT_MAX;

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

struct Identity(CertificateDer<'static>, Vec<u8>);

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
    Identity(made.cert.der().clone(), made.signing_key.serialize_der())
});

/// What a client's traffic secret was.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<u8>>);

impl KeyLog for Heard {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().expect("one thread") = secret.to_vec();
        }
    }
}

struct Pair {
    server: Tls,
    client: ClientConnection,
    heard: Arc<Heard>,
}

impl Pair {
    /// After the handshake, with this suite of TLS 1.3.
    fn of(suite: CipherSuite) -> Self {
        let mut pair = Self::new(&[&TLS13], |provider| {
            provider.cipher_suites.retain(|own| own.suite() == suite);
        });
        assert_eq!(pair.exchange(1 << 20), b"");
        assert!(matches!(pair.server.state, State::Records(_)));
        pair
    }

    fn new(
        versions: &[&'static SupportedProtocolVersion],
        adjust_client: impl FnOnce(&mut CryptoProvider),
    ) -> Self {
        let usual = rustls::crypto::aws_lc_rs::default_provider();
        let mut provider = usual.clone();
        adjust_client(&mut provider);
        let Identity(certificate, key) = &*IDENTITY;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
        let mut server = ServerConfig::builder_with_provider(Arc::new(usual))
            .with_safe_default_protocol_versions()
            .expect("the provider has one at least")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("the pair matches");
        tell_secrets(&mut server);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a valid certificate");
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let heard = Arc::new(Heard::default());
        client.key_log = heard.clone();
        let name = ServerName::try_from("localhost").expect("a DNS name");
        Self {
            server: Tls::new(Arc::new(server)).expect("a valid configuration"),
            client: ClientConnection::new(Arc::new(client), name).expect("a valid configuration"),
            heard,
        }
    }

    /// Lets both answer each other until they are silent; what the server read.
    fn exchange(&mut self, chunk: usize) -> Vec<u8> {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client
                    .write_tls(&mut sent)
                    .expect("a vector takes all");
            }
            for part in sent.chunks_mut(chunk) {
                let taken = self.server.receive(part, &mut plain, &mut out);
                taken.expect("an honest client");
            }
            assert_eq!(self.deliver(&out), b"", "no data");
            out.clear();
        }
        plain
    }

    /// Gives the client what the server sent; what it read.
    fn deliver(&mut self, mut sealed: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        while !sealed.is_empty() {
            self.client
                .read_tls(&mut sealed)
                .expect("a slice gives all");
            self.client.process_new_packets().expect("an honest server");
            let _would_block = self.client.reader().read_to_end(&mut got);
        }
        got
    }

    /// The client's records, for those that no client makes. Its connection is not used any more.
    fn forge(&self, suite: CipherSuite) -> Records {
        let suite = Suite::of(suite).expect("of TLS 1.3");
        let secret = self.heard.0.lock().expect("one thread");
        let client = || Traffic::new(suite, &secret, 0).expect("as long as the hash");
        Records::new(client(), client())
    }

    fn receive(&mut self, sealed: &mut [u8]) -> Result<(Progress, Vec<u8>), TlsError> {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let progress = self.server.receive(sealed, &mut plain, &mut out)?;
        Ok((progress, plain))
    }
}

/// Goal: handshake and data work however the ciphertext is split, in both versions; sealed data arrives whole, and nothing
/// is kept between records.
#[test]
fn data_flows_both_ways_in_any_chunks() {
    for (version, chunk) in [&TLS12, &TLS13]
        .into_iter()
        .flat_map(|version| [1, 7, 1000, 1 << 20].map(|chunk| (version, chunk)))
    {
        let mut pair = Pair::new(&[version], |_| {});
        pair.exchange(chunk);
        let is_ours = matches!(pair.server.state, State::Records(_));
        assert_eq!(is_ours, version.version == ProtocolVersion::TLSv1_3);
        pair.client.writer().write_all(b"hello").expect("buffered");
        assert_eq!(pair.exchange(chunk), b"hello");
        assert!(pair.server.incoming.capacity() == 0);
        let sent = vec![7; 100_000];
        let mut sealed = Vec::new();
        pair.server.seal(&sent, &mut sealed).expect("established");
        assert!(pair.deliver(&sealed) == sent);
    }
}

/// Goal: the first data may come with the handshake's last record.
#[test]
fn data_may_come_with_the_finished_message() {
    for chunk in [3, 1 << 20] {
        let mut pair = Pair::new(&[&TLS13], |_| {});
        pair.client.writer().write_all(b"GET /").expect("buffered");
        assert_eq!(pair.exchange(chunk), b"GET /");
        assert!(matches!(pair.server.state, State::Records(_)));
    }
}

/// Goal: who offers an exchange of keys that withstands quantum computers gets it, also where it sends shares of others
/// beside it; who knows only older ones, and who must be asked for another share, is served. Method: clients that know
/// these groups and send a share of the first.
#[test]
fn the_key_exchange_is_the_strongest_of_both() {
    use NamedGroup::{X25519, X25519MLKEM768, secp256r1, secp384r1};
    for (offered, agreed) in [
        (&[X25519MLKEM768, X25519, secp256r1][..], X25519MLKEM768),
        (&[X25519MLKEM768], X25519MLKEM768),
        // Its share is good enough: it is not asked for another one.
        (&[X25519, X25519MLKEM768], X25519),
        (&[X25519, secp256r1], X25519),
        (&[secp256r1], secp256r1),
        (&[secp384r1], secp384r1),
    ] {
        for chunk in [7, 1 << 20] {
            let mut pair = Pair::new(&[&TLS13], |provider| {
                let all = mem::take(&mut provider.kx_groups);
                let named = |name: &NamedGroup| all.iter().find(|group| group.name() == *name);
                provider.kx_groups = offered
                    .iter()
                    .map(|name| *named(name).expect("known"))
                    .collect();
            });
            pair.client.writer().write_all(b"hello").expect("buffered");
            assert_eq!(pair.exchange(chunk), b"hello");
            let group = pair.client.negotiated_key_exchange_group();
            assert_eq!(group.expect("it has shaken hands").name(), agreed);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    ClientSays(usize),
    ServerSays(usize),
    ClientUpdates,
    ServerUpdates,
    /// Another process goes on.
    Moves,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![0..50usize, 16_380..16_390usize, 0..60_000usize];
    prop_oneof![
        length.clone().prop_map(Step::ClientSays),
        length.prop_map(Step::ServerSays),
        Just(Step::ClientUpdates),
        Just(Step::ServerUpdates),
        Just(Step::Moves),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Goal: with every suite each side reads what the other said, through key updates that either side begins and asks
    /// the other for, however bytes are split. Records are full where there is enough to say.
    #[test]
    fn each_side_reads_what_the_other_says(
        suite in 0..3usize,
        chunk in prop_oneof![1..20usize, 1000..16_000usize],
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let mut pair = Pair::of(SUITES[suite]);
        for step in steps {
            match step {
                Step::ClientSays(length) => {
                    let said: Vec<_> = (0..=u8::MAX).cycle().take(length).collect();
                    pair.client.writer().write_all(&said).expect("buffered");
                    prop_assert!(pair.exchange(chunk) == said);
                }
                Step::ServerSays(length) => {
                    let said: Vec<_> = (0..=u8::MAX).cycle().take(length).collect();
                    let (mut gathered, mut sealed) = (Vec::new(), Vec::new());
                    let filled = pair.server.seal_from(&mut gathered, &mut sealed, |write| {
                        said.chunks(chunk).for_each(write);
                    });
                    filled.expect("established");
                    prop_assert_eq!(sealed.len(), length + length.div_ceil(CONTENT_MAX) * 22);
                    prop_assert!(pair.deliver(&sealed) == said);
                }
                Step::ClientUpdates => {
                    pair.client.refresh_traffic_keys().expect("established");
                    prop_assert_eq!(pair.exchange(chunk), b"");
                }
                Step::ServerUpdates => {
                    let State::Records(records) = &mut pair.server.state else {
                        panic!("established");
                    };
                    let mut sealed = Vec::new();
                    records.update(&mut sealed).expect("a key is left");
                    prop_assert_eq!(pair.deliver(&sealed), b"");
                }
                Step::Moves => {
                    let carried = pair.server.carry().expect("established");
                    pair.server = Tls::inherit(&carried).expect("as it was written");
                }
            }
        }
        let mut sealed = Vec::new();
        pair.server.seal_close(&mut sealed);
        pair.deliver(&sealed);
        prop_assert_eq!(pair.client.reader().read(&mut [0]).expect("the end"), 0);
        pair.client.send_close_notify();
        let mut sent = Vec::new();
        pair.client.write_tls(&mut sent).expect("a vector takes all");
        let (progress, _) = pair.receive(&mut sent).expect("honest");
        prop_assert_eq!(progress, Progress::Closed);
    }

    /// Goal: a record that was changed anywhere, or comes twice, is refused with an alert that the client reads; nothing
    /// of it is taken.
    #[test]
    fn what_was_changed_is_refused(suite in 0..3usize, at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut pair = Pair::of(SUITES[suite]);
        pair.client.writer().write_all(b"hello").expect("buffered");
        let mut sent = Vec::new();
        pair.client.write_tls(&mut sent).expect("a vector takes all");
        let mut changed = sent.clone();
        changed[at.index(sent.len())] ^= flip;
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        match pair.server.receive(&mut changed, &mut plain, &mut out) {
            Err(TlsError::Record(_)) => {
                let told = pair.client.read_tls(&mut &out[..]).map(|_| pair.client.process_new_packets());
                let told = told.expect("a slice gives all");
                prop_assert!(matches!(told, Err(rustls::Error::AlertReceived(_))), "{told:?}");
            }
            // It is longer now, and its rest is waited for.
            Ok(_) => prop_assert!(pair.server.incoming.len() == changed.len()),
            Err(other) => prop_assert!(false, "{other}"),
        }
        prop_assert!(plain.is_empty());
    }

    /// Goal: noise behind a handshake never panics and never yields data.
    #[test]
    fn noise_yields_nothing(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut pair = Pair::of(SUITES[0]);
        if let Ok((_, plain)) = pair.receive(&mut noise.clone()) {
            prop_assert!(plain.is_empty());
        }
        let mut data = [&[23, 3, 3, 0, 100][..], &noise].concat();
        if let Ok((_, plain)) = pair.receive(&mut data) {
            prop_assert!(plain.is_empty());
        }
    }
}

/// Goal: content and padding of any length are told apart; a record of padding alone, one that is too long, messages
/// in pieces and what has no place here get the answers of RFC 8446.
#[test]
fn records_that_no_client_makes() {
    let suite = SUITES[1];
    let taken = |parts: &[(u8, &[u8])]| {
        let mut pair = Pair::of(suite);
        let mut forged = pair.forge(suite);
        let mut sealed = Vec::new();
        for (kind, content) in parts {
            forged
                .seal(*kind, content, &mut sealed)
                .expect("a key is left");
        }
        let received = pair.receive(&mut sealed);
        received.map(|(progress, plain)| {
            let mut out = Vec::new();
            pair.server.seal(b"goes on", &mut out).expect("established");
            (progress, plain)
        })
    };
    let padded =
        |content: &[u8], kind: u8, zeros: usize| [content, &[kind], &vec![0; zeros]].concat();
    let open = |plain: &[u8]| (Progress::Established, plain.to_vec());
    // The type that `seal` adds is zero here, so it is the last byte of the padding.
    assert_eq!(
        taken(&[(0, &padded(b"hi", 23, 0))]).expect("padded"),
        open(b"hi")
    );
    assert_eq!(
        taken(&[(0, &padded(b"hi", 23, 16_380))]).expect("padded"),
        open(b"hi")
    );
    assert_eq!(
        taken(&[(0, &padded(b"", 23, 9))]).expect("padded"),
        open(b"")
    );
    let fault = |parts: &[(u8, &[u8])]| match taken(parts) {
        Err(TlsError::Record(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        fault(&[(0, &[0; 40])]),
        RecordFault::Unexpected(_)
    ));
    let long = vec![1; CONTENT_MAX + 1];
    assert_eq!(fault(&[(23, &long)]), RecordFault::TooLong);
    // KeyUpdate (24), one byte long, in pieces. The next record is under the next key, so not readable here.
    let pieces: &[(u8, &[u8])] = &[(22, &[24]), (22, &[0, 0]), (22, &[1, 0])];
    assert_eq!(taken(pieces).expect("in pieces"), open(b""));
    assert_eq!(
        fault(&[(22, &[24, 0, 0, 1, 0]), (23, b"old key")]),
        RecordFault::Forged
    );
    assert_eq!(fault(&[(22, &[24, 0, 0, 1, 2])]), RecordFault::KeyUpdate(2));
    for parts in [
        &[(22, &[24, 0, 0, 1, 0, 0][..])][..],
        &[(22, &[24, 0][..]), (23, &b"within"[..])],
        &[(22, &[24, 0][..]), (21, &[1, 0][..])],
        &[(22, &[][..])],
        &[(22, &[1, 0, 0, 1, 0][..])],
        &[(20, &[1][..])],
        &[(21, &[1][..])],
    ] {
        assert!(
            matches!(fault(parts), RecordFault::Unexpected(_)),
            "{parts:?}"
        );
    }
    assert_eq!(fault(&[(21, &[2, 40])]), RecordFault::Alert(40));
    assert_eq!(taken(&[(21, &[1, 90])]).expect("goes on"), open(b""));
    let closed = taken(&[(23, b"bye"), (21, &[1, 0]), (23, b"more")]);
    assert_eq!(closed.expect("closed"), (Progress::Closed, b"bye".to_vec()));
    let nothing: Vec<(u8, &[u8])> = vec![(23, b""); 33];
    assert_eq!(taken(&nothing[..32]).expect("within the limit"), open(b""));
    assert!(matches!(fault(&nothing), RecordFault::Unexpected(_)));
}

/// Goal: the next key follows before the one in use has sealed too much; the client follows.
#[test]
fn keys_are_replaced_in_time() {
    for suite in SUITES {
        let mut pair = Pair::of(suite);
        let State::Records(records) = &mut pair.server.state else {
            panic!("established");
        };
        records.use_up();
        let mut sealed = Vec::new();
        let failed = pair.server.seal(b"old key", &mut sealed);
        failed.expect("the next key");
        // What was not sent in between is not missed: the client counts from the update on.
        assert!(sealed.len() > 2 * 22 + 7, "a KeyUpdate and the data");
        let State::Records(records) = &pair.server.state else {
            panic!("established");
        };
        assert_eq!(records.sealed(), 1);
    }
}

/// Goal: an error after the first half of a handshake message is reported. rustls indexes out of range if it
/// is then asked for its alert with an empty slice.
#[test]
fn half_a_hello_before_noise_is_refused() {
    let record = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("a short record");
        [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat()
    };
    for noise in 0..3 {
        let mut pair = Pair::new(&[&TLS13], |_| {});
        let mut hello = Vec::new();
        pair.client
            .write_tls(&mut hello)
            .expect("a vector takes all");
        let (half, rest) = hello[5..].split_at(100);
        let noise = [record(22, &rest[..1]), record(99, rest), record(23, rest)][noise].clone();
        let mut stream = [record(22, half), noise].concat();
        stream.extend([0xff; 32]);
        assert!(pair.receive(&mut stream).is_err());
    }
}

/// Goal: half a KeyUpdate message that comes with the handshake's last record, which rustls keeps, does not hinder
/// sealing, and its other half takes effect.
#[test]
fn half_a_key_update_with_the_finished_message() {
    let suite = SUITES[0];
    let mut pair = Pair::new(&[&TLS13], |provider| {
        provider.cipher_suites.retain(|own| own.suite() == suite);
    });
    let mut sent = Vec::new();
    pair.client
        .write_tls(&mut sent)
        .expect("a vector takes all");
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let hello = pair.server.receive(&mut sent, &mut plain, &mut out);
    hello.expect("an honest client");
    pair.deliver(&out);
    out.clear();
    let mut finished = Vec::new();
    pair.client
        .write_tls(&mut finished)
        .expect("a vector takes all");
    let mut forged = pair.forge(suite);
    forged
        .seal(22, &[24, 0], &mut finished)
        .expect("a key is left");
    let progress = pair.server.receive(&mut finished, &mut plain, &mut out);
    assert_eq!(progress.expect("half a message"), Progress::Established);
    pair.server
        .seal(b"meanwhile", &mut out)
        .expect("established");
    let mut rest = Vec::new();
    forged
        .seal(22, &[0, 1, 0], &mut rest)
        .expect("a key is left");
    let progress = pair.server.receive(&mut rest, &mut plain, &mut out);
    assert_eq!(progress.expect("the other half"), Progress::Established);
    pair.server
        .seal(b"afterwards", &mut out)
        .expect("established");
    pair.server.seal_close(&mut out);
    assert!(plain.is_empty());
}

/// Goal: noise is refused with an error, and an alert goes out.
#[test]
fn noise_is_refused() {
    let mut pair = Pair::new(&[&TLS13], |_| {});
    assert!(
        pair.receive(&mut b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec())
            .is_err()
    );
}
