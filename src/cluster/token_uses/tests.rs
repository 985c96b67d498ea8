use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;
use uproar_proto::cluster::Sequence;

const NODES: usize = 3;
const TOKENS: u8 = 12;

/// Brokers that lose requests and answers, and whose leader may not answer a question, or know less than it did.
#[derive(Default)]
struct Brokers {
    stored: RefCell<HashMap<TokenId, Bytes>>,
    // Each is one append, of one use or several.
    sent: RefCell<Vec<Vec<(u64, TokenId, Bytes)>>>,
    is_connected: bool,
}

impl Appends for Brokers {
    fn append_use(&self, number: u64, token: TokenId, claimant: Bytes) -> bool {
        if self.is_connected {
            let alone = vec![(number, token, claimant)];
            self.sent.borrow_mut().push(alone);
        }
        self.is_connected
    }

    fn append_uses(&self, uses: &[(u64, TokenId, Bytes)]) -> bool {
        assert!(uses.len() > 1, "one use is no batch");
        if self.is_connected {
            self.sent.borrow_mut().push(uses.to_vec());
        }
        self.is_connected
    }
}

impl Brokers {
    fn next_sent(&self) -> Option<Vec<(u64, TokenId, Bytes)>> {
        let mut sent = self.sent.borrow_mut();
        (!sent.is_empty()).then(|| sent.remove(0))
    }

    /// Takes an append whole or not at all. Returns whether it was taken.
    fn take(&self, uses: &[(u64, TokenId, Bytes)]) -> bool {
        let mut stored = self.stored.borrow_mut();
        let is_free = uses.iter().enumerate().all(|(at, (_, token, _))| {
            let twice = uses[..at].iter().any(|(_, other, _)| other == token);
            !twice && !stored.contains_key(token)
        });
        if is_free {
            stored.extend(
                uses.iter()
                    .map(|(_, token, claimant)| (*token, claimant.clone())),
            );
        }
        is_free
    }
}

#[expect(clippy::disallowed_methods, reason = "only differences count")]
fn start() -> Instant {
    Instant::now()
}

fn token(number: u8) -> TokenId {
    TokenId::from_bytes([number; 16])
}

/// What became of one use, and by which node it was begun.
type Ends = Vec<(usize, u64, TokenOutcome)>;

struct World {
    brokers: Brokers,
    nodes: Vec<TokenUses>,
    tokens: HashMap<(usize, u64), TokenId>,
    ends: Ends,
    batches: usize,
    now: Instant,
    random: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let me = |node| Incarnation::new(u64::try_from(node).expect("three"));
        Self {
            brokers: Brokers {
                is_connected: true,
                ..Brokers::default()
            },
            nodes: (0..NODES).map(|node| TokenUses::new(me(node))).collect(),
            tokens: HashMap::new(),
            ends: Vec::new(),
            batches: 0,
            now: start(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn begin(&mut self, claim: u64) {
        let node = self.random.usize(..NODES);
        let token = token(self.random.u8(..TOKENS));
        self.tokens.insert((node, claim), token);
        self.nodes[node].begin((node, claim), token, self.now);
        if self.random.bool() {
            self.nodes[node].append_waiting(&self.brokers, self.now);
            self.answer(node);
        }
    }

    /// Lets the brokers take what `node` has sent, or not, and answer it, or not.
    fn answer(&mut self, node: usize) {
        // A batch that is refused is followed by its uses.
        while let Some(uses) = self.brokers.next_sent() {
            if self.random.u8(..10) == 0 {
                continue;
            }
            // A refusal although nothing is stored: another append was in progress, and came to nothing.
            let is_taken = self.random.u8(..10) > 0 && self.brokers.take(&uses);
            let outcome = match self.random.u8(..10) {
                0 => AppendOutcome::Unknown,
                1 => continue,
                _ if is_taken => AppendOutcome::Ok(Sequence(1)),
                _ => AppendOutcome::WrongLast,
            };
            let (first, ..) = uses[0];
            if uses.len() > 1 {
                self.batches += usize::from(is_taken);
                let done = self.nodes[node].batch_answered(&self.brokers, first, outcome, self.now);
                self.ends.extend(done);
                continue;
            }
            let (done, question) = self.nodes[node].answered(first, outcome, self.now);
            self.ends.extend(done);
            if let Some(question) = question {
                let stored = self.brokers.stored.borrow();
                let stored = stored
                    .get(&question.token)
                    .filter(|_| self.random.u8(..5) > 0);
                let answer = question.answer(stored.map(|claimant| &**claimant));
                self.ends
                    .extend(self.nodes[node].was_read(answer, self.now));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in 0..NODES {
            let late = self.nodes[node].tick(&self.brokers, self.now);
            self.ends.extend(late);
            self.answer(node);
        }
    }
}

/// Goal: of all uses of one token, on all nodes, at most one is the first; one that is told to come again is another's; each
/// has one end, and none waits longer than its shard does. Method: seeds over brokers that lose both ways, uses alone and in
/// batches.
#[test]
fn a_token_is_used_once() {
    let (mut firsts, mut agains, mut unknowns, mut batches) = (0, 0, 0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for claim in 0..60 {
            world.brokers.is_connected = world.random.u8(..12) > 0;
            world.begin(claim);
            let pause = Duration::from_millis(world.random.u64(..400));
            world.pass(pause);
        }
        for _ in 0..30 {
            world.pass(Duration::from_millis(250));
        }
        assert_eq!(world.ends.len(), 60, "seed {seed}: each use has one end");
        assert!(
            world.nodes.iter().all(|node| node.count() == 0),
            "seed {seed}"
        );
        batches += world.batches;
        let mut first: HashMap<TokenId, usize> = HashMap::new();
        for (node, claim, outcome) in &world.ends {
            let token = world.tokens[&(*node, *claim)];
            match outcome {
                TokenOutcome::First => {
                    firsts += 1;
                    *first.entry(token).or_default() += 1;
                }
                TokenOutcome::Again => {
                    agains += 1;
                    assert!(
                        world.brokers.stored.borrow().contains_key(&token),
                        "seed {seed}"
                    );
                }
                TokenOutcome::Unknown => unknowns += 1,
            }
        }
        assert!(
            first.values().all(|count| *count == 1),
            "seed {seed}: {first:?}"
        );
    }
    // All of it happens.
    assert!(
        firsts > 1000 && agains > 1000 && unknowns > 10 && batches > 30,
        "{firsts} {agains} {unknowns} {batches}"
    );
}

/// Goal: beyond the bound uses wait, and go when others have ended.
#[test]
fn uses_beyond_the_bound_wait() {
    let brokers = Brokers {
        is_connected: true,
        ..Brokers::default()
    };
    let mut uses = TokenUses::new(Incarnation::new(1));
    let now = start();
    let count = u64::try_from(CLUSTER_TOKEN_USES_MAX).expect("thousands") + 5;
    for claim in 0..count {
        uses.begin(
            (0, claim),
            TokenId::from_bytes(u128::from(claim).to_le_bytes()),
            now,
        );
    }
    let mut silent = now;
    for sent in 1..=CLUSTER_TOKEN_USES_MAX / CLUSTER_TOKEN_BATCH_MAX {
        uses.append_waiting(&brokers, silent);
        uses.append_waiting(&brokers, silent);
        assert_eq!(brokers.sent.borrow().len(), sent, "one at a time");
        silent += CLUSTER_ANSWER_MAX;
    }
    uses.append_waiting(&brokers, silent);
    let sizes: Vec<usize> = brokers.sent.borrow().iter().map(Vec::len).collect();
    assert_eq!(sizes, [CLUSTER_TOKEN_BATCH_MAX; 8], "more wait");
    // An answer that comes after its time says nothing; the use's own append does.
    let done = uses.batch_answered(&brokers, 1, AppendOutcome::Ok(Sequence(1)), silent);
    assert_eq!(done, []);
    let (done, _) = uses.answered(1, AppendOutcome::Ok(Sequence(1)), silent);
    assert_eq!(done, Some((0, 0, TokenOutcome::First)));
    uses.append_waiting(&brokers, silent);
    assert_eq!(brokers.sent.borrow().len(), 9);
    let late = uses.tick(&brokers, now + JOIN_PARKED_MAX);
    assert_eq!(late.len(), CLUSTER_TOKEN_USES_MAX + 4);
    assert_eq!(uses.count(), 0);
}

/// Goal: of two uses at once the second has its refusal soon after the first is in the log, not at the next tick. Method: brokers
/// refuse it while the first one is in progress and nothing is stored.
#[test]
fn the_second_in_a_race_waits_for_milliseconds() {
    let brokers = Brokers {
        is_connected: true,
        ..Brokers::default()
    };
    let mut uses = TokenUses::new(Incarnation::new(1));
    let begun = start();
    uses.begin((0, 7), token(1), begun);
    uses.append_waiting(&brokers, begun);
    let mut now = begun;
    for attempt in 0..3_u32 {
        let sent = brokers.sent.borrow_mut().pop().expect("it is tried");
        let (number, ..) = sent[0];
        let (done, question) = uses.answered(number, AppendOutcome::WrongLast, now);
        assert_eq!(done, None, "a refusal is no verdict");
        let question = question.expect("whose it is");
        let stored = (attempt == 2).then_some(&b"another"[..]);
        let done = uses.was_read(question.answer(stored), now);
        if let Some(done) = done {
            assert_eq!(done, (0, 7, TokenOutcome::Again));
            assert_eq!(
                now - begun,
                CLUSTER_TOKEN_RETRY_MIN * 3,
                "one pause, and one twice as long"
            );
            assert_eq!(uses.count(), 0);
            return;
        }
        now = uses.due().expect("soon");
        uses.retry(&brokers, now);
    }
    panic!("the log says whose it is");
}

/// Goal: a token that was used does not keep others of its batch out: each of them is appended by itself, at once.
#[test]
fn a_used_token_keeps_out_itself_only() {
    let brokers = Brokers {
        is_connected: true,
        ..Brokers::default()
    };
    assert!(brokers.take(&[(1, token(1), Bytes::from_static(b"another"))]));
    let (mut uses, now) = (TokenUses::new(Incarnation::new(1)), start());
    for number in 0..3 {
        uses.begin(
            (0, number),
            token(u8::try_from(number).expect("small")),
            now,
        );
    }
    uses.append_waiting(&brokers, now);
    let sent = brokers.sent.borrow_mut().pop().expect("a batch");
    assert!(sent.len() == 3 && !brokers.take(&sent));
    let done = uses.batch_answered(&brokers, 1, AppendOutcome::WrongLast, now);
    assert_eq!(done, [], "whose fault it was nobody knows");
    let mut ends = Vec::new();
    for sent in brokers.sent.take() {
        let (number, ..) = sent[0];
        let outcome = if brokers.take(&sent) {
            AppendOutcome::Ok(Sequence(1))
        } else {
            AppendOutcome::WrongLast
        };
        let (done, question) = uses.answered(number, outcome, now);
        ends.extend(done);
        if let Some(question) = question {
            ends.extend(uses.was_read(question.answer(Some(b"another")), now));
        }
    }
    ends.sort_by_key(|(_, claim, _)| *claim);
    let (first, again) = (TokenOutcome::First, TokenOutcome::Again);
    assert_eq!(ends, [(0, 0, first), (0, 1, again), (0, 2, first)]);
}
