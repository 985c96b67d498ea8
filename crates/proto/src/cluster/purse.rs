//! Rates of the account, which all nodes grant together.
//!
//! The home of hash slot 0 keeps the budgets (`Bank`). Each node has a purse: what it has drawn in advance. All
//! purses together hold 50 ms' worth at most, which the bank's burst is smaller by. So over any time the nodes grant no
//! more than one server would: what was granted was drawn from the bank before, but for what the purses held.
//!
//! A request is granted from the purse, which draws anew when half of it is used. If it is empty the request waits for the
//! answer to one draw, a round trip. Without an answer within `CLUSTER_DRAW_MAX`, or without that home, the node is on
//! its own: it grants the rate by the number of living nodes, beginning with an empty budget, and tells the bank
//! afterwards, which charges it.
//!
//! A bank begins with empty budgets: what the one before it granted is in the purses. Draws and grants may be lost or
//! late: then fewer are granted, never more.
//!
//! A home that was replaced may not know it yet, so a bank grants only for `CLUSTER_BANK_LEASE` from the beginning of
//! an append that its log has taken: until then it was the home. Whoever takes over unasked has read that record
//! later than its append began, and lets its own budgets fill from `CLUSTER_BANK_LEASE` behind that. So two banks never
//! grant at one time, and no clock is compared with another. A draw that comes when nothing was appended lately waits for the
//! next append.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Epoch, Incarnation};
use crate::base::clock::Tick;
use crate::base::limits::{
    CLUSTER_BANK_DRAWS_MAX, CLUSTER_BANK_LEASE, CLUSTER_DRAW_MAX, CLUSTER_DRAW_WAITING_MAX,
};
use crate::base::rate::{Budget, Rate};

/// The purses of all nodes hold this part of a second's worth together.
const ADVANCE: u32 = 20;

/// A budget of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota(u8);

impl Quota {
    /// `SEND_MESSAGE` of all rooms.
    pub const SENDS: Self = Self(0);
    /// `DELETE_MESSAGE` of all rooms.
    pub const DELETIONS: Self = Self(1);
    /// `DISCONNECT_USER` of all rooms.
    pub const DISCONNECTS: Self = Self(2);

    /// Calls of an operation of the API, by its number.
    pub const fn operation(number: u8) -> Self {
        Self(number.saturating_add(16))
    }

    /// What is written for it.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What was written.
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }
}

/// What a node tells the bank of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The budget.
    pub quota: Quota,
    /// Requests a second, of all nodes; above 0.
    pub per_second: u32,
    /// What the node granted on its own, and has not told before.
    pub spent: u32,
    /// What it would like to draw.
    pub wanted: u32,
}

/// What the bank grants of one budget.
pub type Grant = (Quota, u32);

/// A draw, as it comes to the bank.
#[derive(Debug)]
pub(super) struct Draw {
    /// Who draws.
    pub from: Incarnation,
    /// Of whom, by what it has read.
    pub epoch: Epoch,
    /// Names it in the answer.
    pub number: u64,
    /// What is wished for.
    pub wishes: Vec<Wish>,
    /// When it came.
    pub came: Tick,
}

/// The budgets, at the home of hash slot 0.
#[derive(Debug, Default)]
pub(super) struct Bank {
    // When the budgets began to fill.
    since: Tick,
    budgets: BTreeMap<Quota, Budget>,
    // When the newest append began that the log has taken in this epoch.
    confirmed: Option<Tick>,
    // Draws that wait for a lease, or for this home to read of itself; one a node.
    draws: VecDeque<Draw>,
}

impl Bank {
    /// Begins with empty budgets, that fill from `since` on. `confirmed`: when the append of its `Takeover` began.
    pub(super) fn take_office(&mut self, since: Tick, confirmed: Option<Tick>) {
        self.since = since;
        self.confirmed = confirmed;
        self.budgets.clear();
    }

    /// It is the bank no more. Draws stay: one of them may be for an epoch that begins now.
    pub(super) fn leave(&mut self) {
        self.confirmed = None;
    }

    /// The log has taken an append that began then.
    pub(super) fn confirm(&mut self, begun: Tick) {
        self.confirmed = self.confirmed.max(Some(begun));
    }

    /// Whether nobody else can be the bank yet.
    pub(super) fn has_lease(&self, now: Tick) -> bool {
        self.is_within(CLUSTER_BANK_LEASE, now)
    }

    /// Whether it should append soon, to keep its lease.
    pub(super) fn is_lease_old(&self, now: Tick) -> bool {
        !self.is_within(CLUSTER_BANK_LEASE / 2, now)
    }

    fn is_within(&self, time: Duration, now: Tick) -> bool {
        self.confirmed.is_some_and(|begun| now < begun.after(time))
    }

    /// Keeps a draw until it can be served.
    pub(super) fn queue(&mut self, draw: Draw) {
        // Who draws again has given the one before up.
        self.draws.retain(|before| before.from != draw.from);
        if self.draws.len() < CLUSTER_BANK_DRAWS_MAX {
            self.draws.push_back(draw);
        }
    }

    /// Whether a draw waits.
    pub(super) fn is_asked(&self) -> bool {
        !self.draws.is_empty()
    }

    /// The next draw that is for this epoch, and whose sender still waits.
    pub(super) fn next_draw(&mut self, epoch: Epoch, now: Tick) -> Option<Draw> {
        let is_good = |draw: &Draw| draw.epoch == epoch && now < draw.came.after(CLUSTER_DRAW_MAX);
        std::iter::from_fn(|| self.draws.pop_front()).find(is_good)
    }

    /// Grants what there is of what one of `nodes` wishes for. Only with a lease.
    pub(super) fn grant(&mut self, wishes: &[Wish], nodes: u32, now: Tick) -> Vec<Grant> {
        let since = self.since;
        let grant = |wish: &Wish| {
            let advance = if nodes > 1 {
                wish.per_second / ADVANCE
            } else {
                0
            };
            let rate = Rate::with_burst(wish.per_second, wish.per_second - advance);
            let budget = self.budgets.entry(wish.quota);
            let budget = budget.or_insert_with(|| Budget::used_up(rate, since));
            budget.owe(rate, wish.spent, now);
            (wish.quota, budget.take_up_to(rate, wish.wanted, now))
        };
        wishes.iter().map(grant).collect()
    }
}

/// One budget, as a node has it.
#[derive(Debug)]
struct Account<W> {
    rate: Rate,
    // Drawn, and not granted yet.
    stock: u32,
    // In order of arrival.
    waiting: VecDeque<W>,
    // Granted by this node on its own, and not charged by the bank yet.
    spent: u32,
    // What it may grant on its own.
    share: Budget,
}

/// A draw without an answer yet.
#[derive(Debug)]
struct Pending {
    number: u64,
    to: Incarnation,
    sent: Tick,
    // How many waited when it was sent, and what it tells as spent.
    asked: Vec<(Quota, usize, u32)>,
}

/// What a node has drawn, and what waits for it.
#[derive(Debug)]
pub(super) struct Purse<W> {
    accounts: BTreeMap<Quota, Account<W>>,
    waiting: usize,
    pending: Option<Pending>,
    number: u64,
    // Nodes that live.
    nodes: u32,
    // Since when this node is on its own.
    alone: Option<Tick>,
    // While it is: when it looks for the bank again.
    next_draw: Tick,
    // Something was taken since the last draw.
    is_thirsty: bool,
    decided: VecDeque<(W, bool)>,
    /// Draws, and what was granted without the bank, since the start.
    pub(super) counts: PurseCounts,
}

/// Sums since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurseCounts {
    /// Draws sent.
    pub draws: u64,
    /// Requests granted without the home of hash slot 0.
    pub alone: u64,
}

impl<W> Default for Purse<W> {
    fn default() -> Self {
        Self {
            accounts: BTreeMap::new(),
            waiting: 0,
            pending: None,
            number: 0,
            nodes: 1,
            alone: None,
            next_draw: Tick::default(),
            is_thirsty: false,
            decided: VecDeque::new(),
            counts: PurseCounts::default(),
        }
    }
}

impl<W> Account<W> {
    /// How much of the rate one of `nodes` may hold in advance.
    fn advance(&self, nodes: u32) -> u32 {
        self.rate.limit() / ADVANCE / nodes.max(1)
    }
}

impl<W> Purse<W> {
    /// Takes one request from a budget. [`Purse::next_decided`] tells what becomes of it.
    pub(super) fn take(&mut self, quota: Quota, rate: Rate, waiter: W, now: Tick) {
        let (alone, nodes) = (self.alone, self.nodes);
        let account = self.accounts.entry(quota).or_insert_with(|| Account {
            rate,
            stock: 0,
            waiting: VecDeque::new(),
            spent: 0,
            share: Budget::used_up(rate.share(nodes), alone.unwrap_or(now)),
        });
        account.rate = rate;
        self.is_thirsty = true;
        if account.stock > 0 && account.waiting.is_empty() {
            account.stock -= 1;
            self.decided.push_back((waiter, true));
        } else if alone.is_some() {
            self.grant_alone(quota, waiter, now);
        } else if self.waiting >= CLUSTER_DRAW_WAITING_MAX {
            self.decided.push_back((waiter, false));
        } else {
            account.waiting.push_back(waiter);
            self.waiting += 1;
        }
    }

    fn grant_alone(&mut self, quota: Quota, waiter: W, now: Tick) {
        let Some(account) = self.accounts.get_mut(&quota) else {
            return;
        };
        let granted = account.share.take(account.rate.share(self.nodes), now);
        account.spent += u32::from(granted);
        self.counts.alone += u64::from(granted);
        self.decided.push_back((waiter, granted));
    }

    /// What was decided, in the order of its budget.
    pub(super) fn next_decided(&mut self) -> Option<(W, bool)> {
        self.decided.pop_front()
    }

    /// Whether the bank may have to be asked.
    pub(super) fn wants(&self, now: Tick) -> bool {
        let may = self.alone.is_none() || self.next_draw <= now;
        self.is_thirsty && may && self.pending.is_none()
    }

    /// Whether there is anything to do.
    pub(super) fn has_work(&self, now: Tick) -> bool {
        !self.decided.is_empty() || self.wants(now)
    }

    /// Learns how many nodes live.
    pub(super) fn set_nodes(&mut self, nodes: u32) {
        self.nodes = nodes.max(1);
    }

    /// What to draw from the bank, and the number of the draw; `None`: there is enough.
    pub(super) fn draw(&mut self, to: Incarnation, now: Tick) -> Option<(u64, Vec<Wish>)> {
        self.is_thirsty = false;
        let nodes = self.nodes;
        let mut accounts = self.accounts.values();
        let is_low = accounts.any(|account| {
            !account.waiting.is_empty() || account.stock < account.advance(nodes).div_ceil(2)
        });
        if self.pending.is_some() || !(is_low || self.alone.is_some()) {
            return None;
        }
        let (mut wishes, mut asked) = (Vec::new(), Vec::new());
        for (quota, account) in &self.accounts {
            let waiting = u32::try_from(account.waiting.len()).unwrap_or(u32::MAX);
            let missing = account.advance(nodes).saturating_sub(account.stock);
            // On its own it only tells what it granted.
            let wanted = if self.alone.is_some() {
                0
            } else {
                waiting.saturating_add(missing)
            };
            if wanted > 0 || account.spent > 0 {
                wishes.push(Wish {
                    quota: *quota,
                    per_second: account.rate.limit(),
                    spent: account.spent,
                    wanted,
                });
                asked.push((*quota, account.waiting.len(), account.spent));
            }
        }
        self.number += 1;
        self.counts.draws += 1;
        self.next_draw = now.after(CLUSTER_DRAW_MAX);
        self.pending = Some(Pending {
            number: self.number,
            to,
            sent: now,
            asked,
        });
        Some((self.number, wishes))
    }

    /// The bank's answer: who waited when it was asked is granted or refused.
    pub(super) fn granted(&mut self, number: u64, grants: &[Grant]) {
        let is_it = |pending: &mut Pending| pending.number == number;
        let Some(pending) = self.pending.take_if(is_it) else {
            return;
        };
        self.alone = None;
        for (quota, waited, spent) in pending.asked {
            let Some(account) = self.accounts.get_mut(&quota) else {
                continue;
            };
            account.spent = account.spent.saturating_sub(spent);
            let granted = grants.iter().find(|(granted, _)| *granted == quota);
            account.stock = account
                .stock
                .saturating_add(granted.map_or(0, |(_, count)| *count));
            let mut waited = waited;
            while waited > 0 || account.stock > 0 {
                let Some(waiter) = account.waiting.pop_front() else {
                    break;
                };
                waited = waited.saturating_sub(1);
                self.waiting -= 1;
                self.decided.push_back((waiter, account.stock > 0));
                account.stock = account.stock.saturating_sub(1);
            }
        }
        self.is_thirsty |= self.waiting > 0;
    }

    /// There is no bank: from now on this node grants its part on its own.
    pub(super) fn go_alone(&mut self, now: Tick) {
        self.is_thirsty = false;
        self.pending = None;
        if self.alone.is_some() {
            return;
        }
        self.alone = Some(now);
        self.next_draw = now.after(CLUSTER_DRAW_MAX);
        self.waiting = 0;
        let mut all = Vec::new();
        for (quota, account) in &mut self.accounts {
            account.share = Budget::used_up(account.rate.share(self.nodes), now);
            all.extend(account.waiting.drain(..).map(|waiter| (*quota, waiter)));
        }
        for (quota, waiter) in all {
            self.grant_alone(quota, waiter, now);
        }
    }

    /// There is another bank: what was asked of the one before is asked again.
    pub(super) fn bank_moved(&mut self, now: Tick) {
        self.is_thirsty |= self.pending.take().is_some() || self.alone.is_some();
        self.next_draw = now;
    }

    /// Brokers say that nobody takes messages for this process.
    pub(super) fn is_gone(&mut self, incarnation: Incarnation, now: Tick) {
        if (self.pending.as_ref()).is_some_and(|pending| pending.to == incarnation) {
            self.go_alone(now);
        }
    }

    /// When the wait for an answer is over.
    pub(super) fn due(&self) -> Option<Tick> {
        let pending = self.pending.as_ref()?;
        Some(pending.sent.after(CLUSTER_DRAW_MAX))
    }

    /// Gives up a draw whose time is over.
    pub(super) fn expire(&mut self, now: Tick) {
        if self.due().is_some_and(|due| due <= now) {
            self.go_alone(now);
        }
    }
}
