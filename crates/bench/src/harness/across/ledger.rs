//! What was said and what was heard, and what of it is missing, repeated or in another order. Pure.

use std::collections::{HashMap, HashSet};

/// A message, by its number: its sender in the upper bits, counted below.
pub(crate) type Number = u64;

/// When something was, in nanoseconds of a clock that all share.
pub(super) type Moment = u64;

/// A connection that ends this soon after a message was said says nothing about it.
const MARGIN: u64 = 3_000_000_000;
/// A connection hears what is said this long after it began.
const BEGIN: u64 = 1_000_000_000;

/// One message that a sender's connection took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) number: Number,
    pub(super) room: usize,
    pub(super) at: Moment,
    /// When the connection ended.
    pub(super) until: Moment,
}

impl Said {
    /// Its connection lasted: the server had it.
    fn is_sure(&self) -> bool {
        self.at.saturating_add(MARGIN) <= self.until
    }
}

/// What one connection heard, in order.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    pub(super) room: usize,
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) heard: Vec<Number>,
}

impl Stay {
    /// Whether it must have heard what was said then.
    fn covers(&self, at: Moment) -> bool {
        self.from.saturating_add(BEGIN) <= at && at.saturating_add(MARGIN) <= self.until
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Messages that a connection took which lasted for three seconds more.
    pub(crate) said: u64,
    /// Of these and of those that anybody heard, the ones that at least one receiver of their room never got whose
    /// connection had stood for a second and lasted for three more.
    pub(crate) lost: u64,
    /// Of these, those that other receivers got.
    pub(crate) partly: u64,
    /// Deliveries that such receivers never got.
    pub(crate) lost_deliveries: u64,
    /// Deliveries that came again on one connection.
    pub(crate) repeated: u64,
    /// Deliveries before which a connection had got one that another connection got later.
    pub(crate) reordered: u64,
}

/// Counts what went wrong.
pub(super) fn count(said: &[Said], stays: &[Stay]) -> Losses {
    let mut losses = Losses::default();
    let rooms: HashSet<usize> = stays.iter().map(|stay| stay.room).collect();
    for room in rooms {
        let here: Vec<&Stay> = stays.iter().filter(|stay| stay.room == room).collect();
        let said = said.iter().filter(|said| said.room == room);
        count_room(said, &here, &mut losses);
    }
    losses
}

fn count_room<'a>(said: impl Iterator<Item = &'a Said>, stays: &[&Stay], losses: &mut Losses) {
    let sets: Vec<HashSet<Number>> = stays
        .iter()
        .map(|stay| stay.heard.iter().copied().collect())
        .collect();
    for said in said {
        losses.said += u64::from(said.is_sure());
        let is_heard = sets.iter().any(|set| set.contains(&said.number));
        if !said.is_sure() && !is_heard {
            continue;
        }
        let there = stays
            .iter()
            .zip(&sets)
            .filter(|(stay, _)| stay.covers(said.at));
        let missing = there.filter(|(_, set)| !set.contains(&said.number)).count();
        losses.lost += u64::from(missing > 0);
        losses.partly += u64::from(missing > 0 && is_heard);
        losses.lost_deliveries += missing as u64;
    }
    for (stay, set) in stays.iter().zip(&sets) {
        losses.repeated += (stay.heard.len() - set.len()) as u64;
    }
    // The one who heard most.
    let Some(reference) = stays.iter().max_by_key(|stay| stay.heard.len()) else {
        return;
    };
    let mut places: HashMap<Number, usize> = HashMap::new();
    for (place, number) in reference.heard.iter().enumerate() {
        places.entry(*number).or_insert(place);
    }
    losses.reordered += stays
        .iter()
        .map(|stay| backward(&stay.heard, &places))
        .sum::<u64>();
}

/// How often a delivery's place in another order is before one that was got earlier; repetitions aside.
fn backward(heard: &[Number], places: &HashMap<Number, usize>) -> u64 {
    let (mut seen, mut furthest, mut count) = (HashSet::new(), None, 0);
    for number in heard {
        let Some(place) = places.get(number) else {
            continue;
        };
        if !seen.insert(number) {
            continue;
        }
        if furthest.is_some_and(|furthest| *place < furthest) {
            count += 1;
        } else {
            furthest = Some(*place);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Moment = Moment::MAX;
    const SECOND: Moment = 1_000_000_000;

    fn said(number: Number, until: Moment) -> Said {
        Said {
            number,
            room: 0,
            at: 10 * SECOND,
            until,
        }
    }

    fn stay(heard: &[Number], until: Moment) -> Stay {
        Stay {
            room: 0,
            from: 0,
            until,
            heard: heard.to_vec(),
        }
    }

    /// Goal: what is missing at a lasting receiver is lost, whether or not others got it; who was cut soon afterwards, or
    /// came a moment before, misses nothing; what a cut sender said counts only if somebody got it.
    #[test]
    fn losses_are_of_lasting_receivers() {
        let cut = 11 * SECOND;
        let said = [said(1, END), said(2, END), said(3, cut), said(4, cut)];
        let mut late = stay(&[], END);
        late.from = 9 * SECOND + 1;
        let stays = [
            stay(&[1, 3], END),
            stay(&[1, 2, 3], END),
            stay(&[1], cut),
            late,
        ];
        let losses = count(&said, &stays);
        assert_eq!((losses.said, losses.lost, losses.partly), (2, 1, 1));
        assert_eq!(losses.lost_deliveries, 1);
        let nobody = count(&said, &[stay(&[], END), stay(&[], END)]);
        assert_eq!(
            (nobody.lost, nobody.partly, nobody.lost_deliveries),
            (2, 0, 4)
        );
    }

    /// Goal: repetitions and other orders are counted apart, and rooms do not mix.
    #[test]
    fn repetitions_and_orders_are_counted_apart() {
        let said: Vec<_> = (1..=4).map(|number| said(number, END)).collect();
        let most = stay(&[1, 2, 3, 4], END);
        let again = count(&said, &[stay(&[1, 2, 2, 3, 1, 4], END), most.clone()]);
        assert_eq!((again.repeated, again.reordered, again.lost), (2, 0, 0));
        let other = count(&said, &[most.clone(), stay(&[1, 3, 2, 4], END)]);
        assert_eq!((other.repeated, other.reordered, other.lost), (0, 1, 0));
        let mut elsewhere = stay(&[4, 3], END);
        elsewhere.room = 1;
        let apart = count(&said, &[most.clone(), elsewhere]);
        assert_eq!(apart, count(&said, &[most]));
    }
}
