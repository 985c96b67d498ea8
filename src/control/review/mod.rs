//! Message review: requests of the shards to handlers, verdicts back.
//!
//! One task per message. It waits for a free request to its handler, then for one of the total;
//! both queues are first come, first served, and bounded. So a handler that hangs uses up only its
//! own requests. The deadline covers the wait too; the room's home shard enforces it, here it only
//! ends the call.

mod afterwards;
mod client;
mod metrics;
mod settings;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use metrics::ReviewMetrics;
pub use settings::{Lambda, ReviewSettings};

use super::http_client::CallError;
use super::record::Handler as Attached;
use super::state::Control;
use crate::net::event::Event;
use crate::shard::mesh::ReviewReceivers;
use crate::shard::review::ReviewRequest;
use client::{CallFault, HandlerClient};
use metrics::Outcome;
use settings::Target;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::{
    AFTER_REVIEW_IN_FLIGHT_MAX, REVIEW_HANDLERS_MAX, REVIEW_IN_FLIGHT_MAX,
    REVIEW_IN_FLIGHT_PER_HANDLER_MAX, REVIEW_OPEN_MAX, REVIEW_WAITING_PER_HANDLER_MAX,
};
use uproar_proto::base::rate::{Budget, Rate};
use uproar_proto::chat::review::{
    AnswerFault, Question, Verdict, question_json, read_answer, read_denial,
};

/// Requests handled from one shard before the others, and the API, run.
const REQUESTS_PER_TURN_MAX: usize = 256;
/// Log lines of one handler; the metrics count all failures.
const COMPLAINTS: Rate = Rate::per_second(1);

/// Sends messages to review. One, on the control thread.
pub struct Reviews {
    control: Rc<Control>,
    settings: RefCell<ReviewSettings>,
    // From a message's arrival to its deadline; the shards' one.
    timeout: Cell<Duration>,
    client: RefCell<Rc<HandlerClient>>,
    // Above REVIEW_HANDLERS_MAX those without a review are dropped.
    handlers: RefCell<HashMap<HandlerKey, Rc<Handler>>>,
    // Free requests of all handlers together, and those of them after delivery.
    requests: Semaphore,
    requests_afterwards: Semaphore,
    metrics: Rc<ReviewMetrics>,
    // Reviews after delivery that have no outcome yet, oldest first, and the number of the next one.
    afterwards: RefCell<BTreeMap<u64, Rc<ReviewRequest>>>,
    next_afterwards: Cell<u64>,
}

/// A function's ARN, and whether it is asked after delivery: a slow one does not wait in line with those that are asked before.
type HandlerKey = (String, bool);

/// One handler, with the bounds that isolate it from the others.
struct Handler {
    // The function's ARN.
    function: String,
    // `None`: its address is not configured.
    target: RefCell<Option<Rc<Target>>>,
    // Its free requests.
    requests: Semaphore,
    // Reviews that wait for a free request; at most REVIEW_WAITING_PER_HANDLER_MAX.
    waiting: Cell<usize>,
    // Log lines it may still cause.
    complaints: Cell<Budget>,
}

/// Settings that running reviews take over, with all that can fail done.
#[derive(Debug)]
pub struct ReviewChange {
    settings: ReviewSettings,
    timeout: Duration,
    client: HandlerClient,
}

impl ReviewChange {
    /// Makes what calls handlers by these settings; `timeout` is the shards' one.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read, and a handler needs them.
    pub fn new(settings: ReviewSettings, timeout: Duration) -> io::Result<Self> {
        Ok(Self {
            client: HandlerClient::new(settings.is_secure())?,
            settings,
            timeout,
        })
    }
}

/// Why a review fails.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer in time")]
    Timeout,
    #[error(
        "{REVIEW_WAITING_PER_HANDLER_MAX} reviews of it wait already, or {REVIEW_OPEN_MAX} of all"
    )]
    Busy,
    #[error("neither review.functions nor review.lambda_endpoint says where it is")]
    Unconfigured,
    #[error(transparent)]
    Call(#[from] CallFault),
    #[error(transparent)]
    Answer(#[from] AnswerFault),
}

impl Fault {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::Busy => Outcome::Busy,
            Self::Unconfigured => Outcome::Unconfigured,
            Self::Call(CallFault::Call(CallError::TooLong(_))) | Self::Answer(_) => {
                Outcome::Invalid
            }
            Self::Call(_) => Outcome::Error,
        }
    }
}

impl Reviews {
    /// Creates it; `timeout` is the shards' one.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read, and a handler needs them.
    pub fn new(
        control: Rc<Control>,
        settings: ReviewSettings,
        timeout: Duration,
        metrics: Rc<ReviewMetrics>,
    ) -> io::Result<Rc<Self>> {
        let ReviewChange {
            settings,
            timeout,
            client,
        } = ReviewChange::new(settings, timeout)?;
        Ok(Rc::new(Self {
            control,
            settings: RefCell::new(settings),
            timeout: Cell::new(timeout),
            client: RefCell::new(Rc::new(client)),
            handlers: RefCell::default(),
            requests: Semaphore::new(REVIEW_IN_FLIGHT_MAX),
            requests_afterwards: Semaphore::new(AFTER_REVIEW_IN_FLIGHT_MAX),
            metrics,
            afterwards: RefCell::default(),
            next_afterwards: Cell::new(0),
        }))
    }

    /// Takes changed settings over. Calls in progress end as they began; reviews that wait for a free request go by
    /// the new settings, and without a handler there the room's `fallbackResult` decides.
    pub fn adopt(&self, change: ReviewChange) {
        self.settings.replace(change.settings);
        self.timeout.set(change.timeout);
        self.client.replace(Rc::new(change.client));
        for handler in self.handlers.borrow().values() {
            handler.target.replace(self.target(&handler.function));
        }
    }

    fn target(&self, function: &str) -> Option<Rc<Target>> {
        self.settings.borrow().target(function).map(Rc::new)
    }

    /// Handles the shards' requests, forever. Call within a `LocalSet`.
    pub async fn serve(self: Rc<Self>, reviews: ReviewReceivers) -> io::Result<Infallible> {
        let ReviewReceivers { receivers, bell } = reviews;
        let event = Event::new(bell.event())?;
        let shards = receivers.len();
        self.control.review_requests.replace(receivers);
        loop {
            for shard in 0..shards {
                for _ in 0..REQUESTS_PER_TURN_MAX {
                    let Some(request) = self.next_of(shard) else {
                        break;
                    };
                    self.take(request);
                }
            }
            let has_items = || {
                let receivers = self.control.review_requests.borrow();
                receivers.iter().any(|receiver| !receiver.is_empty())
            };
            bell.sleep(has_items, event.wait()).await?;
        }
    }

    /// The next request of a shard, if there is one.
    fn next_of(&self, shard: usize) -> Option<ReviewRequest> {
        self.control
            .review_requests
            .borrow_mut()
            .get_mut(shard)?
            .pop()
            .ok()
    }

    fn take(self: &Rc<Self>, request: ReviewRequest) {
        if let Some(function) = &request.afterwards {
            let function = function.to_string();
            return self.take_afterwards(function, request);
        }
        let room = self.control.registry.rooms.get(request.room);
        let attached = room.and_then(|room| room.reviewer().cloned());
        let Some(Attached { uri, .. }) = attached else {
            // The handler was detached, or the room is gone: there is no handler to call.
            self.control
                .gateway
                .rule(request.room, request.ticket, None);
            return;
        };
        let handler = self.handler((uri, false));
        if self.is_full(&handler) {
            self.finish(&handler, &request, Err(Fault::Busy));
            return;
        }
        let reviews = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = reviews.verdict(&handler, &request).await;
            reviews.finish(&handler, &request, outcome);
        });
    }

    /// Whether one more review would be too many.
    fn is_full(&self, handler: &Handler) -> bool {
        self.metrics.open.get() >= REVIEW_OPEN_MAX
            || handler.waiting.get() >= REVIEW_WAITING_PER_HANDLER_MAX
    }

    /// What a handler says of a message, in the request's time.
    async fn verdict(&self, handler: &Handler, request: &ReviewRequest) -> Result<Verdict, Fault> {
        let deadline = Instant::from_std(self.control.clock.instant(request.deadline));
        let _open = Counted::new(&self.metrics.open);
        let review = timeout_at(deadline, self.review(handler, request));
        review.await.unwrap_or(Err(Fault::Timeout))
    }

    async fn review(&self, handler: &Handler, request: &ReviewRequest) -> Result<Verdict, Fault> {
        let is_configured = handler.target.borrow().is_some();
        if !is_configured {
            return Err(Fault::Unconfigured);
        }
        let (_own, _all) = {
            let _waiting = Counted::new(&handler.waiting);
            let own = handler.requests.acquire().await;
            let afterwards = if request.afterwards.is_some() {
                Some(self.requests_afterwards.acquire().await)
            } else {
                None
            };
            let all = self.requests.acquire().await;
            (own, (afterwards, all))
        };
        let _in_flight = Counted::new(&self.metrics.in_flight);
        let message = request.publish_request.message();
        let question = Question {
            content: message.content,
            attributes_json: message.attributes_json,
            message_id: request.id,
            room_arn: &self.control.settings.account.arn(request.room),
            sender_json: message.sender_json,
            ip: request.publish_request.ip(),
        };
        let question = Bytes::from(question_json(&question));
        let now = self.control.clock.now().unix;
        let target = handler.target.borrow().clone();
        let target = target.ok_or(Fault::Unconfigured)?;
        let client = Rc::clone(&self.client.borrow());
        let answer = client.call(&target, question, now).await?;
        let mut verdict = match answer.fault {
            None => read_answer(&answer.body, usize::from(request.content_chars_max))?,
            Some(fault) => read_denial(&answer.body).ok_or(fault)?,
        };
        if let Verdict::Allow(rewrite) = &mut verdict
            && self.settings.borrow().omitted_attributes_drop
        {
            rewrite.attributes_json.get_or_insert("null".into());
        }
        Ok(verdict)
    }

    /// Counts and logs the result, and sends the verdict to the room.
    fn finish(&self, handler: &Handler, request: &ReviewRequest, outcome: Result<Verdict, Fault>) {
        let now = self.control.clock.now().tick;
        let counted = counted(&outcome);
        // The deadline was set when the message arrived.
        let left = request.deadline.since(now);
        let late = now.since(request.deadline);
        self.metrics
            .note(counted, self.timeout.get().saturating_sub(left) + late);
        if let Err(fault) = &outcome
            && handler.may_complain(now)
        {
            let (function, room) = (&handler.function, request.room);
            tracing::warn!(function, %room, %fault, "a message was not reviewed: the room's fallbackResult decides");
        }
        self.control
            .gateway
            .rule(request.room, request.ticket, outcome.ok());
    }

    fn handler(&self, key: HandlerKey) -> Rc<Handler> {
        let mut handlers = self.handlers.borrow_mut();
        if let Some(handler) = handlers.get(&key) {
            return Rc::clone(handler);
        }
        if handlers.len() >= REVIEW_HANDLERS_MAX {
            // A review in progress holds its handler.
            handlers.retain(|_, handler| Rc::strong_count(handler) > 1);
        }
        let handler = Rc::new(Handler {
            target: RefCell::new(self.target(&key.0)),
            requests: Semaphore::new(REVIEW_IN_FLIGHT_PER_HANDLER_MAX),
            waiting: Cell::new(0),
            complaints: Cell::default(),
            function: key.0.clone(),
        });
        handlers.insert(key, Rc::clone(&handler));
        handler
    }
}

impl Handler {
    /// Whether a log line may say that it has failed.
    fn may_complain(&self, now: Tick) -> bool {
        let mut budget = self.complaints.get();
        let may = budget.take(COMPLAINTS, now);
        self.complaints.set(budget);
        may
    }
}

fn counted(outcome: &Result<Verdict, Fault>) -> Outcome {
    match outcome {
        Ok(Verdict::Allow(_)) => Outcome::Allow,
        Ok(Verdict::Deny(_)) => Outcome::Deny,
        Err(fault) => fault.outcome(),
    }
}

/// Counts one for as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.update(|count| count + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.update(|count| count - 1);
    }
}
