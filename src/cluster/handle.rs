//! What the control plane has of the cluster: its state and its orders.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::fault::ClusterFault;
use super::state::{State, Unready};
use crate::clock::Clock;
use crate::exposition::Exposition;
use crate::shard::cluster::Search;
use crate::shard::command;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CLUSTER_ANSWER_MAX, CLUSTER_SILENT};
use uproar_proto::base::rate::Rate;
use uproar_proto::cluster::crowd::{About, Crowd};
use uproar_proto::cluster::engine::{LogsEstate, MessageRates, Status};
use uproar_proto::cluster::user_event::UserEvent;
use uproar_proto::cluster::{HashSlot, Incarnation, Quota};
use uproar_proto::token::KeyId;

/// The handle of a node's cluster thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) state: Arc<ArcSwap<State>>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) searches: watch::Receiver<Vec<Search>>,
    pub(super) clock: Clock,
    pub(super) me: Incarnation,
    pub(super) token_life: Duration,
    pub(super) isolated_cut: Option<Duration>,
}

/// How far the thread is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// It looks for the brokers, and reads the end of each log.
    Beginning,
    /// It has read the end of each log, and follows them.
    Begun,
    /// It cannot begin.
    Failed(Arc<ClusterFault>),
}

/// What the thread is told by the control plane.
#[derive(Debug)]
pub(super) enum Order {
    /// What this node says of itself.
    Facts(RegistryFacts),
    /// The account's rates of messages.
    Rates(MessageRates),
    /// A call of the API: whether it is within this rate of a budget.
    Charge(Quota, Rate, oneshot::Sender<bool>),
    /// Hand all hash slots over, and take none; or not any more.
    Drain(bool),
    /// Hand a hash slot over.
    Move(HashSlot, Incarnation),
    /// Hash slots that were moved go where they belong.
    Balance,
    /// Tell all other nodes of an event for one user, and how many connections they sent it through.
    TellUser(UserEvent, oneshot::Sender<u64>),
    /// Ask all other nodes about a room's viewers.
    AskCrowd(Crowd, oneshot::Sender<Vec<Bytes>>),
    /// Tell everything.
    Status(oneshot::Sender<Snapshot>),
    /// Ask the brokers.
    Request(String, Bytes, oneshot::Sender<io::Result<Bytes>>),
    /// Hand all hash slots over, because another process is to take over this one's viewers; or not any more.
    Release(bool),
    /// Tell how far the logs are read, if the thread has stopped for a hand-over.
    Estate(oneshot::Sender<Option<LogsEstate>>),
    /// Serve in place of another process, which has left this; `None`: it has left nothing.
    Begin(Option<Box<LogsEstate>>),
    /// End.
    Stop,
}

/// Everything about the cluster, as this node knows it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the engine knows.
    pub status: Status,
    /// What this thread knows.
    pub state: Arc<State>,
    /// The configured brokers.
    pub servers: Vec<String>,
}

/// What the control plane adds to a node's signs of life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryFacts {
    /// Whether the node has every room, and may be a home.
    pub is_current: bool,
    /// The newest revision of the registry that it has.
    pub revision: u64,
    /// Sealing keys that it opens tokens with.
    pub key_ids: Vec<KeyId>,
}

impl Cluster {
    /// This process, as the others know it.
    pub fn me(&self) -> Incarnation {
        self.me
    }

    /// The longest life of a token whose use the brokers are sure to remember: that of this node's start, when it asked
    /// them.
    pub fn token_life_max(&self) -> Duration {
        self.token_life
    }

    /// Returns when brokers are connected, the streams are as they must be, and the end of each log was read.
    ///
    /// # Errors
    ///
    /// Something that waiting does not mend. Brokers that do not answer are waited for.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn begun(&self) -> Result<(), Arc<ClusterFault>> {
        let mut phase = self.phase.clone();
        let settled = phase
            .wait_for(|phase| !matches!(phase, Phase::Beginning))
            .await;
        match settled.as_deref() {
            Ok(Phase::Failed(fault)) => Err(Arc::clone(fault)),
            Ok(Phase::Beginning | Phase::Begun) => Ok(()),
            // The supervisor tells why.
            Err(_ended) => Err(Arc::new(ended().into())),
        }
    }

    /// Whether viewers are welcome, as far as the cluster goes.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn ready(&self) -> Result<(), Unready> {
        self.state.load().ready(self.clock.now().tick)
    }

    /// How long no message has gone through the cluster and back, once that is as long as this node may be so.
    pub fn cut_off_for(&self) -> Option<Duration> {
        let isolation = self.state.load().isolation(self.clock.now().tick);
        let most = self.isolated_cut?;
        (isolation >= most).then_some(isolation)
    }

    /// The newest search of each shard for rooms that it does not know; it changes with each one.
    pub fn searches(&self) -> watch::Receiver<Vec<Search>> {
        self.searches.clone()
    }

    /// Everything that is known now; `None` if the thread does not answer for 3 s.
    pub async fn status(&self) -> Option<Snapshot> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Status(answer));
        tokio::time::timeout(CLUSTER_SILENT, answered)
            .await
            .ok()?
            .ok()
    }

    /// Asks the brokers, and returns the answer's payload.
    ///
    /// # Errors
    ///
    /// No answer within 2 s.
    pub async fn request(&self, subject: &str, payload: Bytes) -> io::Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Request(subject.to_owned(), payload, answer));
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Adds what the control plane knows of this node to its signs of life.
    pub fn tell(&self, facts: RegistryFacts) {
        self.order(Order::Facts(facts));
    }

    /// Number of nodes that are alive, this one included.
    pub fn live_nodes(&self) -> usize {
        self.state.load().figures.nodes.max(1)
    }

    /// Number of hash slots whose home is this node.
    pub fn slots_home(&self) -> usize {
        self.state.load().figures.slots_home
    }

    /// The account's rates of messages from now on, of all nodes together.
    pub fn set_rates(&self, rates: MessageRates) {
        self.order(Order::Rates(rates));
    }

    /// Whether a call of the operation of this number is within its rate, of all nodes together. `None`: the thread does not
    /// answer.
    ///
    /// # Cancel safety
    ///
    /// The call may be charged.
    pub async fn charge(&self, operation: usize, rate: Rate) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        let quota = Quota::operation(u8::try_from(operation).ok()?);
        self.order(Order::Charge(quota, rate, answer));
        let answered = tokio::time::timeout(CLUSTER_ANSWER_MAX, answered).await;
        answered.ok()?.ok()
    }

    /// Has all other nodes send an event to one user's connections; returns through how many they did, as far as they
    /// said so in time.
    ///
    /// # Cancel safety
    ///
    /// It may be sent.
    pub async fn tell_user(&self, event: &command::UserEvent) -> u64 {
        let event = UserEvent {
            from: self.me,
            room: event.room,
            user_id: event.user_id.clone(),
            frame: event.frame.clone(),
        };
        let (answer, answered) = oneshot::channel();
        self.order(Order::TellUser(event, answer));
        answered.await.unwrap_or_default()
    }

    /// What all other nodes know of a room's viewers, as far as they answer in time.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ask_crowd(&self, room: RoomId, about: About) -> Vec<Bytes> {
        let from = self.me;
        let (answer, answered) = oneshot::channel();
        self.order(Order::AskCrowd(
            Crowd::Question { from, room, about },
            answer,
        ));
        answered.await.unwrap_or_default()
    }

    /// Hands all hash slots over to other nodes and takes none, or takes its share again.
    pub fn drain(&self, begins: bool) {
        self.order(Order::Drain(begins));
    }

    /// Hands a hash slot over to a node, wherever its home is.
    pub fn move_slot(&self, slot: HashSlot, to: Incarnation) {
        self.order(Order::Move(slot, to));
    }

    /// Lets hash slots that were moved go where they belong.
    pub fn balance(&self) {
        self.order(Order::Balance);
    }

    /// Hands all hash slots over to other nodes, as a drain does, but this node stays ready for viewers: another process
    /// is to take over its. Or takes its share again.
    pub fn release(&self, begins: bool) {
        self.order(Order::Release(begins));
    }

    /// How far the logs were given to members, once every shard is frozen; `None` before that.
    pub async fn estate(&self) -> Option<LogsEstate> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Estate(answer));
        answered.await.ok().flatten()
    }

    /// Lets a thread that stands by serve: the other process is gone, and has left this. With nothing it begins at
    /// each log's end.
    pub fn begin(&self, estate: Option<LogsEstate>) {
        self.order(Order::Begin(estate.map(Box::new)));
    }

    /// Adds the cluster's figures to `/metrics`.
    pub fn render(&self, page: &mut Exposition) {
        self.state.load().render(page, self.clock.now().tick);
    }

    pub(super) fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        // The supervisor ends the process when the thread ends.
        let _ended = self.orders.send(order);
    }
}

/// How long a request of an operator waits.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(2);

fn ended() -> io::Error {
    io::Error::other("the cluster's thread has ended")
}
