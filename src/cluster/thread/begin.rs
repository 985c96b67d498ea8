//! The thread's beginning: connections, checks, subscriptions.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::deliver::Shards;
use super::halt::Halt;
use super::lines::Lines;
use super::namesake::Namesake;
use super::node::{Incoming, Node};
use super::skew::Skew;
use super::standby::{self, Origin};
use crate::cluster::calls::Calls;
use crate::cluster::choice::Line;
use crate::cluster::connect;
use crate::cluster::fault::ClusterFault;
use crate::cluster::handle::{Order, Phase};
use crate::cluster::hands::Hands;
use crate::cluster::names::Names;
use crate::cluster::settings::ClusterSettings;
use crate::cluster::state::State;
use crate::cluster::token_uses::TokenUses;
use crate::cluster::{kv, setup};
use crate::net::event::Event;
use crate::supervisor::{Pulse, Stopped};
use uproar_proto::base::limits::{CLUSTER_STANDBY_MAX, HASH_SLOTS};
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::engine::{Engine, EngineSettings, Input};
use uproar_proto::cluster::here::Facts;

/// Between two attempts to reach brokers of which none answers.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is said that none does.
const LINES: u32 = 10;

/// Why there is no beginning.
enum End {
    Stopped,
    Failed(ClusterFault),
}

/// The connections, checked.
struct Ready {
    records_client: async_nats::Client,
    calls: Calls,
    incoming: Incoming,
    events: mpsc::UnboundedReceiver<(Line, async_nats::Event)>,
}

/// Waits for brokers, and serves. A fault that waiting does not mend goes to the handle; then the thread only waits for
/// its end.
pub(super) async fn begin(mut hands: Hands, event: Event, pulse: &Pulse) -> io::Result<Stopped> {
    let names = Names::new(&hands.settings.cluster.name);
    let ready = Box::pin(ready(&mut hands, &names, &event, pulse)).await;
    let ready = match ready {
        Ok(mut ready) => {
            let Some(origin) = Box::pin(origin(&mut hands, &event, pulse, &mut ready)).await else {
                return Ok(Stopped);
            };
            (ready, origin)
        }
        Err(End::Stopped) => return Ok(Stopped),
        Err(End::Failed(fault)) => {
            hands.phase.send_replace(Phase::Failed(Arc::new(fault)));
            let never = std::future::pending::<()>();
            let _told = while_alive(&mut hands, &event, pulse, never).await;
            return Ok(Stopped);
        }
    };
    Box::pin(serve(hands, event, pulse, ready)).await
}

/// Serves the bucket, and finds out where reading begins: what another process leaves, if this one takes over. `None`: it
/// was told to stop.
async fn origin(
    hands: &mut Hands,
    event: &Event,
    pulse: &Pulse,
    ready: &mut Ready,
) -> Option<Origin> {
    if let Some(bucket) = hands.bucket.take() {
        let brokers = setup::context(ready.calls.client().clone());
        let cluster = hands.settings.cluster.name.clone();
        tokio::task::spawn_local(async move { kv::serve(brokers, &cluster, bucket).await });
    }
    if !hands.settings.stands_by {
        return Some(Origin::default());
    }
    // Connections and streams are as they must be: that is all that can be known before.
    hands.phase.send_replace(Phase::Begun);
    standby::wait(hands, event, pulse, &mut ready.incoming).await
}

async fn serve(
    mut hands: Hands,
    event: Event,
    pulse: &Pulse,
    (ready, origin): (Ready, Origin),
) -> io::Result<Stopped> {
    let settings = &hands.settings;
    let now = hands.clock.now();
    let engine = EngineSettings {
        me: hands.me,
        about: settings.about.clone(),
        linger: settings.cluster.linger,
    };
    let receivers = std::mem::take(&mut hands.end.receivers);
    let mailboxes = std::mem::take(&mut hands.end.mailboxes);
    let shards = Shards::new(settings.shard.clone(), receivers, mailboxes);
    let (finder, found) = mpsc::unbounded_channel();
    let inherits = origin.estate.is_some();
    let mut engine = match &origin.estate {
        Some(estate) => Engine::inherit(engine, estate, &origin.seen, now),
        None => Engine::new(engine, now),
    };
    engine.input(Input::Rates(settings.shard.message_rates()), now);
    let mut node = Node {
        engine,
        halt: Halt::new(shards.count()),
        shards,
        token_uses: TokenUses::new(hands.me),
        next_state: hands.clock.instant(now.tick),
        with_brokers: now.tick,
        apart: None,
        hands,
        event,
        pulse,
        calls: ready.calls,
        records_client: ready.records_client,
        incoming: ready.incoming,
        appending: vec![None; HASH_SLOTS],
        found,
        finder,
        events: ready.events,
        read: vec![inherits; HASH_SLOTS],
        unread: if inherits { 0 } else { HASH_SLOTS },
        skew: Skew::default(),
        lines: Lines::default(),
        state: State::default(),
        unfit: [None, None],
        charging: HashMap::new(),
        charges: 0,
        elsewhere: 0,
        facts: Facts::default(),
        registry: origin.registry,
        interrupted: VecDeque::new(),
        namesake: Namesake::new(inherits),
        stopping: false,
    };
    node.first(origin.heres, inherits);
    Box::pin(node.serve()).await
}

/// Connects, checks and subscribes; while no broker answers, again and again.
async fn ready(
    hands: &mut Hands,
    names: &Names,
    event: &Event,
    pulse: &Pulse,
) -> Result<Ready, End> {
    let mut attempt = 0;
    let begun = tokio::time::Instant::now();
    loop {
        let (settings, me) = (hands.settings.cluster.clone(), hands.me);
        let connecting = Box::pin(connected(&settings, names, me));
        match while_alive(hands, event, pulse, connecting).await? {
            Ok(ready) => return Ok(ready),
            // Another process serves: it goes on, rather than wait.
            Err(fault @ ClusterFault::Silent { .. })
                if hands.settings.stands_by && begun.elapsed() >= CLUSTER_STANDBY_MAX =>
            {
                return Err(End::Failed(fault));
            }
            Err(fault @ ClusterFault::Silent { .. }) => {
                let waits = Some(fault.to_string());
                hands.state.store(Arc::new(State {
                    waits,
                    ..State::default()
                }));
                if attempt % LINES == 0 {
                    tracing::warn!(cause = %fault, "cluster: waiting for the brokers");
                }
                attempt += 1;
                while_alive(hands, event, pulse, tokio::time::sleep(PAUSE)).await?;
            }
            Err(fault) => return Err(End::Failed(fault)),
        }
    }
}

async fn connected(
    settings: &ClusterSettings,
    names: &Names,
    me: Incarnation,
) -> Result<Ready, ClusterFault> {
    let inbox = names.inbox(me);
    let options = connect::options(settings)?;
    let (sender, events) = mpsc::unbounded_channel();
    let choice = Arc::default();
    let mut clients = Vec::new();
    for line in [Line::Records, Line::Calls] {
        let inbox = format!("{inbox}.{}", line.name());
        let (options, sender) = (options.clone(), sender.clone());
        let client = connect::connect(settings, options, inbox, line, &choice, sender).await?;
        connect::check(&client.server_info())?;
        clients.push(client);
    }
    let [records_client, client] = clients.try_into().expect("one for each line");
    setup::check(&setup::context(client.clone()), settings).await?;
    let calls = Calls::new(client.clone(), names.clone(), &inbox);
    let silent = |error: async_nats::SubscribeError| ClusterFault::Silent {
        servers: settings.servers.join(", "),
        cause: error.to_string(),
    };
    let incoming = Incoming {
        records: records_client
            .subscribe(names.published())
            .await
            .map_err(silent)?,
        messages: client.subscribe(names.to(me)).await.map_err(silent)?,
        heres: client.subscribe(names.here()).await.map_err(silent)?,
        user_events: client
            .subscribe(names.user_events())
            .await
            .map_err(silent)?,
        crowds: client.subscribe(names.crowds()).await.map_err(silent)?,
        answers: client.subscribe(calls.answers()).await.map_err(silent)?,
    };
    Ok(Ready {
        records_client,
        calls,
        incoming,
        events,
    })
}

/// Waits for `work`, taking turns when asked for one.
async fn while_alive<T>(
    hands: &mut Hands,
    event: &Event,
    pulse: &Pulse,
    work: impl Future<Output = T>,
) -> Result<T, End> {
    let mut work = std::pin::pin!(work);
    loop {
        pulse.beat();
        tokio::select! {
            done = &mut work => return Ok(done),
            rung = event.wait() => rung.map_err(|cause| End::Failed(cause.into()))?,
            order = hands.orders.recv() => match order {
                None | Some(Order::Stop) => return Err(End::Stopped),
                Some(Order::Rates(rates)) => hands.settings.shard.set_message_rates(rates),
                // Asked again, or told again, by whoever cares.
                Some(_) => {}
            },
        }
    }
}
