//! Which topics the relay carries, for whom, and who is told of whom. Pure: gossipsub's events and the time in, steps
//! out; the driver is [`super::Topics`].
//!
//! A topic is carried while one of its clients is on it and a while longer, because every change is told to all clients.
//! One client brings at most [`MAX_TOPICS`] topics, changes them at a bounded rate, and all together [`MAX_CARRIED`];
//! what is beyond is not carried and nobody else notices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use tabpeer::messaging::topics::rate::{Flow, Meter, Rate};
use tabpeer::messaging::topics::roster::Frame;
use tabpeer::messaging::topics::{MAX_CARRIED, MAX_MEMBERS, MAX_TOPICS};

/// How long a topic is carried when nobody is on it any more.
const LINGER: Duration = Duration::from_secs(10);
/// How often one client may come to a topic. (Bytes are not counted.)
const CHANGES: Flow = Flow {
    messages: Rate { per_second: 16, burst: 2 * MAX_TOPICS as u32 },
    bytes: Rate { per_second: 1, burst: 1 },
};

/// What is to be done. `L` is how a client is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<L> {
    /// Subscribe to the topic,
    Carry(String),
    /// and unsubscribe.
    Leave(String),
    Tell {
        client: PeerId,
        listener: L,
        frame: Bytes,
    },
}

pub struct Carried<L> {
    topics: BTreeMap<String, Topic>,
    clients: BTreeMap<PeerId, Client<L>>,
    /// Topics that nobody is on.
    idle: usize,
}

#[derive(Default)]
struct Topic {
    members: BTreeSet<PeerId>,
    /// Since when nobody is on it.
    idle: Option<Duration>,
}

struct Client<L> {
    topics: BTreeSet<String>,
    listener: Option<L>,
    changes: Meter,
}

impl<L> Default for Carried<L> {
    fn default() -> Self {
        Self { topics: BTreeMap::new(), clients: BTreeMap::new(), idle: 0 }
    }
}

impl<L: Clone> Carried<L> {
    pub fn subscribed(&mut self, peer: PeerId, name: &str, now: Duration) -> Vec<Step<L>> {
        let mut steps = Vec::new();
        let client = self.clients.entry(peer).or_insert_with(|| Client {
            topics: BTreeSet::new(),
            listener: None,
            changes: Meter::new(CHANGES, now),
        });
        if client.topics.contains(name)
            || client.topics.len() >= MAX_TOPICS
            || !client.changes.take(CHANGES, 0, now)
        {
            return steps;
        }
        if !self.topics.contains_key(name) {
            if self.topics.len() >= MAX_CARRIED {
                return steps;
            }
            self.topics.insert(name.to_owned(), Topic::default());
            steps.push(Step::Carry(name.to_owned()));
        }
        client.topics.insert(name.to_owned());
        let Some(topic) = self.topics.get_mut(name) else { return steps };
        if topic.idle.take().is_some() {
            self.idle -= 1;
        }
        let known = topic.members.len() < MAX_MEMBERS && topic.members.insert(peer);
        if known {
            self.tell_others(name, peer, true, &mut steps);
        }
        self.tell_all(peer, name, &mut steps);
        steps
    }

    pub fn unsubscribed(&mut self, peer: PeerId, name: &str, now: Duration) -> Vec<Step<L>> {
        let mut steps = Vec::new();
        if let Some(client) = self.clients.get_mut(&peer)
            && client.topics.remove(name)
        {
            self.leave(peer, name, now, &mut steps);
        }
        steps
    }

    pub fn disconnected(&mut self, peer: PeerId, now: Duration) -> Vec<Step<L>> {
        let mut steps = Vec::new();
        if let Some(client) = self.clients.remove(&peer) {
            for name in &client.topics {
                self.leave(peer, name, now, &mut steps);
            }
        }
        steps
    }

    /// The client is told of its topics from now on, and first who is there.
    pub fn listening(&mut self, peer: PeerId, listener: L) -> Vec<Step<L>> {
        let mut steps = Vec::new();
        // One that is on no topic yet is told when it is.
        let client = self.clients.entry(peer).or_insert_with(|| Client {
            topics: BTreeSet::new(),
            listener: None,
            changes: Meter::new(CHANGES, Duration::ZERO),
        });
        client.listener = Some(listener);
        for name in client.topics.clone() {
            self.tell_all(peer, &name, &mut steps);
        }
        steps
    }

    /// The client does not read what it is told.
    pub fn deaf(&mut self, peer: PeerId) {
        if let Some(client) = self.clients.get_mut(&peer) {
            client.listener = None;
        }
    }

    pub fn tick(&mut self, now: Duration) -> Vec<Step<L>> {
        let mut steps = Vec::new();
        if self.idle == 0 {
            return steps;
        }
        self.topics.retain(|name, topic| {
            let over = topic.idle.is_some_and(|since| since + LINGER <= now);
            if over {
                steps.push(Step::Leave(name.clone()));
            }
            !over
        });
        self.idle -= steps.len();
        steps
    }

    pub fn next_wake(&self) -> Option<Duration> {
        if self.idle == 0 {
            return None;
        }
        self.topics.values().filter_map(|topic| topic.idle).min().map(|since| since + LINGER)
    }

    fn leave(&mut self, peer: PeerId, name: &str, now: Duration, steps: &mut Vec<Step<L>>) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        let known = topic.members.remove(&peer);
        if topic.members.is_empty() && topic.idle.is_none() {
            topic.idle = Some(now);
            self.idle += 1;
        }
        if known {
            self.tell_others(name, peer, false, steps);
        }
    }

    /// Tells the others on a topic that `peer` came or went.
    fn tell_others(&self, name: &str, peer: PeerId, joined: bool, steps: &mut Vec<Step<L>>) {
        let Some(topic) = self.topics.get(name) else { return };
        let (came, left) = if joined { (vec![peer], vec![]) } else { (vec![], vec![peer]) };
        let frame = Frame { topic: name.to_owned(), all: false, joined: came, left };
        let mut encoded: Option<Bytes> = None;
        for other in topic.members.iter().filter(|other| **other != peer) {
            if let Some(listener) = self.clients.get(other).and_then(|c| c.listener.clone()) {
                let frame = encoded.get_or_insert_with(|| frame.encode().into()).clone();
                steps.push(Step::Tell { client: *other, listener, frame });
            }
        }
    }

    /// Tells `peer` who is on a topic.
    fn tell_all(&self, peer: PeerId, name: &str, steps: &mut Vec<Step<L>>) {
        let listener = self.clients.get(&peer).and_then(|client| client.listener.clone());
        let (Some(listener), Some(topic)) = (listener, self.topics.get(name)) else { return };
        let joined = topic.members.iter().filter(|other| **other != peer).copied().collect();
        let frame = Frame { topic: name.to_owned(), all: true, joined, left: Vec::new() };
        steps.push(Step::Tell { client: peer, listener, frame: frame.encode().into() });
    }
}

#[cfg(test)]
mod tests {
    use tabpeer::messaging::topics::roster::FrameReader;

    use super::*;

    const NOW: Duration = Duration::from_secs(50);

    /// What each client is told, in short.
    fn told(steps: &[Step<u8>]) -> Vec<(u8, bool, Vec<PeerId>, Vec<PeerId>)> {
        let each = steps.iter().filter_map(|step| match step {
            Step::Tell { listener, frame, .. } => {
                let mut reader = FrameReader::default();
                reader.push(frame);
                let frame = reader.next_frame().expect("a frame").expect("whole");
                Some((*listener, frame.all, frame.joined, frame.left))
            }
            _ => None,
        });
        each.collect()
    }

    #[test]
    fn clients_on_a_topic_are_told_of_each_other() {
        let mut carried = Carried::<u8>::default();
        let [a, b] = [PeerId::random(), PeerId::random()];
        assert!(carried.listening(a, 1).is_empty());
        let steps = carried.subscribed(a, "t", NOW);
        assert_eq!(steps[0], Step::Carry("t".into()));
        assert_eq!(told(&steps), [(1, true, vec![], vec![])]);
        let steps = carried.subscribed(b, "t", NOW);
        assert_eq!(told(&steps), [(1, false, vec![b], vec![])]);
        assert!(carried.subscribed(b, "t", NOW).is_empty(), "it said so before");
        assert_eq!(told(&carried.listening(b, 2)), [(2, true, vec![a], vec![])]);
        assert_eq!(told(&carried.unsubscribed(a, "t", NOW)), [(2, false, vec![], vec![a])]);
        carried.deaf(b);
        assert!(
            carried
                .subscribed(a, "t", NOW)
                .iter()
                .all(|step| told(std::slice::from_ref(step)).iter().all(|t| t.0 == 1))
        );
        assert_eq!(told(&carried.disconnected(b, NOW)), [(1, false, vec![], vec![b])]);
    }

    #[test]
    fn a_topic_is_left_a_while_after_its_last_client() {
        let mut carried = Carried::<u8>::default();
        let a = PeerId::random();
        carried.subscribed(a, "t", NOW);
        assert!(carried.disconnected(a, NOW).is_empty());
        assert_eq!(carried.next_wake(), Some(NOW + LINGER));
        assert!(carried.tick(NOW + LINGER / 2).is_empty());
        assert!(carried.subscribed(a, "t", NOW + LINGER / 2).is_empty(), "it is carried still");
        assert_eq!(carried.next_wake(), None);
        assert!(carried.tick(NOW * 9).is_empty());
        carried.unsubscribed(a, "t", NOW * 9);
        assert_eq!(carried.tick(NOW * 9 + LINGER), [Step::Leave("t".into())]);
        assert!(carried.topics.is_empty() && carried.idle == 0);
    }

    #[test]
    fn nobody_brings_too_many_topics() {
        let mut carried = Carried::<u8>::default();
        let (greedy, other) = (PeerId::random(), PeerId::random());
        for n in 0..10_000 {
            carried.subscribed(greedy, &n.to_string(), NOW);
        }
        assert_eq!(carried.topics.len(), MAX_TOPICS);
        assert_eq!(carried.subscribed(other, "t", NOW), [Step::Carry("t".into())]);
        for n in 0..100 * MAX_CARRIED {
            carried.subscribed(PeerId::random(), &format!("x{n}"), NOW);
        }
        assert_eq!(carried.topics.len(), MAX_CARRIED);
    }

    #[test]
    fn nobody_comes_and_goes_without_end() {
        let mut carried = Carried::<u8>::default();
        let a = PeerId::random();
        let mut carries = 0;
        for n in 0..10_000 {
            let steps = carried.subscribed(a, &n.to_string(), NOW);
            carries += steps.len();
            carried.unsubscribed(a, &n.to_string(), NOW);
        }
        assert_eq!(carries, CHANGES.messages.burst as usize);
    }

    #[test]
    fn a_crowd_is_listed_up_to_a_number() {
        let mut carried = Carried::<u8>::default();
        let late = PeerId::random();
        for _ in 0..MAX_MEMBERS + 5 {
            carried.subscribed(PeerId::random(), "t", NOW);
        }
        carried.listening(late, 9);
        let steps = carried.subscribed(late, "t", NOW);
        assert_eq!(told(&steps)[0].2.len(), MAX_MEMBERS);
    }
}
