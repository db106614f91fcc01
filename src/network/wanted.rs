//! Peers that somebody waits for: who waits, what was tried, until when.

use libp2p::{Multiaddr, PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::sync::oneshot;

use super::{
    config::{DIAL_TIMEOUT, MAX_WAITERS_PER_PEER, MAX_WANTED_PEERS},
    error::NetworkError,
    streams::OpenReply,
};
use crate::boxmap::BoxMap;
use crate::platform::time::Instant;

pub type DialReply = oneshot::Sender<Result<PeerId, NetworkError>>;

#[derive(Debug)]
pub enum Waiter {
    Dial(DialReply),
    Stream(StreamProtocol, OpenReply),
}

#[derive(Debug, Default)]
pub struct Wanted(BoxMap<PeerId, Want>);

#[derive(Debug)]
pub struct Want {
    waiters: Vec<Waiter>,
    /// Addresses given with a call, tried or not.
    pub given: Vec<Multiaddr>,
    /// Every address that was dialled for this want.
    pub tried: Vec<Multiaddr>,
    /// The other protocols were asked what they know of the peer.
    pub asked: bool,
    /// The dial under way.
    pub dial: Option<ConnectionId>,
    pub deadline: Instant,
    /// Why the last dial failed.
    pub reason: String,
}

impl Waiter {
    pub fn fail(self, error: NetworkError) {
        // Nobody listens any more if the caller gave up.
        match self {
            Self::Dial(reply) => drop(reply.send(Err(error))),
            Self::Stream(_, reply) => drop(reply.send(Err(error))),
        }
    }

    fn gave_up(&self) -> bool {
        match self {
            Self::Dial(reply) => reply.is_closed(),
            Self::Stream(_, reply) => reply.is_closed(),
        }
    }
}

impl Wanted {
    pub fn add(&mut self, peer: PeerId, given: Option<Multiaddr>, waiter: Waiter) {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_WANTED_PEERS {
            let limit = MAX_WANTED_PEERS;
            return waiter.fail(NetworkError::TooMany { what: "peers being dialled", limit });
        }
        let want = self.0.entry(peer).or_insert_with(|| Want {
            waiters: Vec::new(),
            given: Vec::new(),
            tried: Vec::new(),
            asked: false,
            dial: None,
            deadline: Instant::now() + DIAL_TIMEOUT,
            reason: String::new(),
        });
        if want.waiters.len() >= MAX_WAITERS_PER_PEER {
            let limit = MAX_WAITERS_PER_PEER;
            return waiter
                .fail(NetworkError::TooMany { what: "calls waiting for one peer", limit });
        }
        want.waiters.push(waiter);
        want.given.extend(given);
    }

    pub fn get_mut(&mut self, peer: PeerId) -> Option<&mut Want> {
        self.0.get_mut(&peer)
    }

    /// The peer was found: who waited for it.
    pub fn found(&mut self, peer: PeerId) -> Vec<Waiter> {
        self.0.remove(&peer).map(|want| want.waiters).unwrap_or_default()
    }

    /// Tells everybody who waits that the peer was not found.
    pub fn fail(&mut self, peer: PeerId) {
        let Some(want) = self.0.remove(&peer) else { return };
        let reason = if want.reason.is_empty() { "no relay knows it" } else { &want.reason };
        for waiter in want.waiters {
            let (tried, reason) = (want.tried.clone(), reason.to_owned());
            waiter.fail(NetworkError::PeerUnreachable { peer, tried, reason });
        }
    }

    /// Those whose time is over.
    pub fn overdue(&self, now: Instant) -> Vec<PeerId> {
        self.0.iter().filter(|(_, want)| want.deadline <= now).map(|(peer, _)| *peer).collect()
    }

    /// Forgets those that nobody waits for any more and returns them.
    pub fn abandoned(&mut self) -> Vec<PeerId> {
        for want in self.0.values_mut() {
            want.waiters.retain(|waiter| !waiter.gave_up());
        }
        let gone: Vec<PeerId> = self
            .0
            .iter()
            .filter(|(_, want)| want.waiters.is_empty())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &gone {
            self.0.remove(peer);
        }
        gone
    }

    /// Those that no dial is under way for.
    pub fn idle(&self) -> Vec<PeerId> {
        self.0.iter().filter(|(_, want)| want.dial.is_none()).map(|(peer, _)| *peer).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_up_is_not_waited_for() {
        let mut wanted = Wanted::default();
        let peer = PeerId::random();
        let (first, first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        wanted.add(peer, None, Waiter::Dial(first));
        wanted.add(peer, None, Waiter::Dial(second));
        drop(first_answer);
        assert_eq!(wanted.abandoned(), []);
        wanted.fail(peer);
        let unreachable = second_answer.try_recv().expect("answered");
        assert!(matches!(unreachable, Err(NetworkError::PeerUnreachable { .. })));

        let (third, third_answer) = oneshot::channel();
        wanted.add(peer, None, Waiter::Dial(third));
        drop(third_answer);
        assert_eq!(wanted.abandoned(), [peer]);
        assert!(wanted.is_empty());
    }

    #[test]
    fn the_numbers_are_bounded() {
        let mut wanted = Wanted::default();
        let peer = PeerId::random();
        let mut answers = Vec::new();
        for _ in 0..=MAX_WAITERS_PER_PEER {
            let (reply, answer) = oneshot::channel();
            wanted.add(peer, None, Waiter::Dial(reply));
            answers.push(answer);
        }
        let refused = answers.last_mut().expect("some").try_recv().expect("answered");
        assert!(matches!(refused, Err(NetworkError::TooMany { .. })));
        assert!(answers[0].try_recv().is_err(), "the first still waits");
        for _ in 0..MAX_WANTED_PEERS {
            let (reply, answer) = oneshot::channel();
            wanted.add(PeerId::random(), None, Waiter::Dial(reply));
            answers.push(answer);
        }
        let refused = answers.last_mut().expect("some").try_recv().expect("answered");
        assert!(matches!(refused, Err(NetworkError::TooMany { .. })));
    }
}
