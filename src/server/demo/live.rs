//! What the demo page shows once a second: the room, its viewers, and the storm if there is one.
//!
//! Owns: a task of the control thread, and what it found last. Nothing is looked up while no page asks.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::features::{self, FeatureOrder};
use super::storm::{Crowd, Place, Storm};
use crate::control::Control;
use crate::shard::gateway::Gateway;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{
    DEMO_LOOK_PAUSE, DEMO_ORDERS_MAX, DEMO_STORM_UNWATCHED_MAX, ROOM_RATE_MAX,
};

/// An order of the page.
#[derive(Debug)]
pub(super) enum Order {
    /// Lets a storm begin, in place of one that is there.
    Start {
        /// Its number, by which its page asks for it.
        id: u64,
        crowd: Crowd,
    },
    /// Ends the storm.
    Stop,
    /// An order about the features, with the number by which its page asks for the outcome.
    Feature(u64, FeatureOrder),
}

/// The shards' side: gives orders, reads what was found.
#[derive(Debug)]
pub(super) struct Window {
    /// Whether there can be storms.
    pub(super) storms: bool,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Shared {
    /// JSON.
    found: ArcSwap<String>,
    asked: Notify,
    /// The newest storm whose page has asked since the task last looked; 0: none.
    watched: AtomicU64,
}

/// The control thread's side.
pub(super) struct Watch {
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    control: Rc<Control>,
    gateway: Gateway,
    room: RoomId,
    place: Option<Place>,
    viewers: u64,
    looked: Option<Instant>,
    storm: Option<Storm>,
    /// When it ends unless its page asks.
    unwatched_at: Instant,
    /// The last storm's number and what is to be said of its end.
    ended: Option<(u64, String)>,
    /// The last order about features that was carried out, and why it was refused.
    answered: (u64, Option<String>),
}

impl Window {
    /// Both sides. Without a place there are no storms.
    pub(super) fn open(
        room: RoomId,
        place: Option<Place>,
        (control, gateway): (&Rc<Control>, &Gateway),
    ) -> (Self, Watch) {
        let shared = Arc::new(Shared {
            found: ArcSwap::default(),
            asked: Notify::new(),
            watched: AtomicU64::new(0),
        });
        let (give, orders) = mpsc::channel(DEMO_ORDERS_MAX);
        let watch = Watch {
            shared: Arc::clone(&shared),
            orders,
            control: Rc::clone(control),
            gateway: gateway.clone(),
            room,
            place,
            viewers: 0,
            looked: None,
            storm: None,
            unwatched_at: Instant::now(),
            ended: None,
            answered: (0, None),
        };
        watch.publish();
        let window = Self {
            storms: watch.place.is_some(),
            shared,
            orders: give,
        };
        (window, watch)
    }

    /// What was found last, as JSON; it will be looked up anew. `storm` is the one that the asking page has begun.
    pub(super) fn figures(&self, storm: Option<u64>) -> Arc<String> {
        if let Some(storm) = storm {
            self.shared.watched.fetch_max(storm, Ordering::Relaxed);
        }
        self.shared.asked.notify_one();
        self.shared.found.load_full()
    }

    /// Returns whether the order was taken.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

impl Watch {
    /// Serves pages for as long as it is polled.
    pub(super) async fn serve(mut self) {
        loop {
            let unwatched_at = self.unwatched_at;
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                () = self.shared.asked.notified() => self.look().await,
                told = told(&mut self.storm) => match told {
                    Some(told) => self.told(told),
                    None => self.end("The load generator has ended."),
                },
                () = sleep_until(unwatched_at), if self.storm.is_some() => {
                    self.end("Nobody watched any more.");
                }
            }
            self.publish();
        }
    }

    async fn obey(&mut self, order: Order) {
        let (id, crowd) = match order {
            Order::Start { id, crowd } => (id, crowd),
            Order::Stop => return self.end("Stopped."),
            Order::Feature(number, order) => {
                let done = order.carry_out(self.room, &self.control).await;
                self.answered = (number, done.err());
                return;
            }
        };
        self.end("Stopped.");
        let Some(place) = &self.place else {
            return;
        };
        self.unwatched_at = Instant::now() + DEMO_STORM_UNWATCHED_MAX;
        match Storm::begin(id, crowd, place) {
            Ok(storm) => (self.storm, self.ended) = (Some(storm), None),
            Err(error) => self.ended = Some((id, format!("The load generator: {error}"))),
        }
    }

    /// Takes figures of the load generator.
    fn told(&mut self, told: Value) {
        if let Some(storm) = &mut self.storm {
            storm.told = told;
        }
    }

    fn end(&mut self, why: &str) {
        if let Some(storm) = self.storm.take() {
            let why = if storm.is_over() {
                "Its minute is over."
            } else {
                why
            };
            self.ended = Some((storm.id, why.to_owned()));
        }
    }

    async fn look(&mut self) {
        let watched = self.shared.watched.swap(0, Ordering::Relaxed);
        let now = Instant::now();
        if self.storm.as_ref().is_some_and(|storm| storm.id == watched) {
            self.unwatched_at = now + DEMO_STORM_UNWATCHED_MAX;
        }
        let looked = self.looked.replace(now);
        if looked.is_some_and(|looked| now.duration_since(looked) < DEMO_LOOK_PAUSE) {
            self.looked = looked;
            return;
        }
        // A shard that does not answer is named by `/livez`; the page keeps the last count.
        if let Ok(figures) = self.gateway.room_figures(&[self.room]).await {
            self.viewers = figures.first().map_or(0, |figures| figures.viewers);
        }
    }

    fn publish(&self) {
        let settings = self.control.room_settings(self.room).unwrap_or_default();
        let rate = settings["maximumMessageRatePerSecond"].as_u64();
        let rate = rate.filter(|_| self.gateway.room_rates());
        let storm = self.storm.as_ref().map(Storm::shown);
        let ended = self.ended.as_ref();
        let (number, problem) = &self.answered;
        let found = json!({
            // A room need not have one; neither: it is gone.
            "name": settings["name"].as_str().filter(|name| !name.is_empty()).or(settings["id"].as_str()),
            "viewers": self.viewers,
            "characters": settings["maximumMessageLength"].as_u64(),
            "messages_per_second": rate.unwrap_or(ROOM_RATE_MAX.into()),
            "storms": self.place.is_some(),
            "storm": storm,
            "ended": ended.map(|(id, why)| json!({"id": id, "why": why})),
            "features": self.control.has_extensions().then(|| features::shown(&settings)),
            "answered": {"id": number, "problem": problem},
        });
        self.shared.found.store(Arc::new(found.to_string()));
    }
}

/// The next figures of a storm; `None` once it has ended. Without one, never.
///
/// # Cancel safety
///
/// Nothing is lost.
async fn told(storm: &mut Option<Storm>) -> Option<Value> {
    match storm {
        Some(storm) => storm.next().await,
        None => std::future::pending().await,
    }
}
