//! What other peers told about themselves: kept while they are connected and a while longer, at a
//! bounded cost, whatever they send. Pure.

use libp2p::PeerId;

use super::{did::did_of, message::PeerCapabilities};
use crate::boxmap::BoxMap;
use crate::{content::block::Cid, platform::time::Duration};

/// Peers of which something is known.
pub const MAX_PEERS: usize = 256;
/// What their filters may take together, in bytes.
pub const MAX_FILTERS: usize = 8 << 20;
/// How long it is kept after a peer has left: it may come back.
pub const KEPT: Duration = Duration::from_secs(10 * 60);
/// Messages that a peer may send at once.
pub const BURST: u32 = 4;
/// After a burst, one message is taken in this time.
pub const REFILL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Told {
    peers: BoxMap<PeerId, Entry>,
    filters: usize,
}

#[derive(Debug)]
struct Entry {
    capabilities: Option<PeerCapabilities>,
    /// `None`: it is connected.
    left: Option<Duration>,
    /// When its allowance of messages will be whole again.
    whole_again: Duration,
}

impl Told {
    /// Whether a message of `peer` is read now: each one takes of its allowance.
    pub fn admit(&mut self, peer: PeerId, now: Duration) -> bool {
        if !self.make_room(&peer) {
            return false;
        }
        let new = Entry { capabilities: None, left: Some(now), whole_again: now };
        let entry = self.peers.entry(peer).or_insert(new);
        let whole_again = entry.whole_again.max(now) + REFILL;
        let admitted = whole_again <= now + REFILL * BURST;
        if admitted {
            entry.whole_again = whole_again;
        }
        admitted
    }

    /// Takes what `peer` said, unless something newer was heard of it. Returns whether it is kept.
    pub fn receive(&mut self, peer: PeerId, mut said: PeerCapabilities) -> bool {
        let Some(entry) = self.peers.get_mut(&peer) else { return false };
        let known = entry.capabilities.as_ref();
        let connected = entry.left.is_none();
        if connected && known.is_some_and(|known| known.sequence > said.sequence) {
            return false;
        }
        // A DID is a claim to an identity, and the connection proves only this one.
        let own = did_of(&peer);
        said.did = said.did.filter(|did| own.as_ref() == Some(did));
        self.filters -= known.map_or(0, filter_len);
        if self.filters + filter_len(&said) > MAX_FILTERS {
            said.content = None;
        }
        self.filters += filter_len(&said);
        entry.capabilities = Some(said);
        true
    }

    pub fn connected(&mut self, peer: PeerId, now: Duration) {
        if self.make_room(&peer) {
            let new = Entry { capabilities: None, left: None, whole_again: now };
            self.peers.entry(peer).or_insert(new).left = None;
        }
    }

    /// Those who are not `connected` any more have left.
    pub fn retain(&mut self, connected: &dyn Fn(&PeerId) -> bool, now: Duration) {
        for (peer, entry) in &mut self.peers {
            if !connected(peer) {
                entry.left.get_or_insert(now);
            }
        }
    }

    /// Forgets those who left long ago.
    pub fn expire(&mut self, now: Duration) {
        let filters = &mut self.filters;
        self.peers.retain(|_, entry| {
            let keep = entry.left.is_none_or(|left| now < left + KEPT);
            if !keep {
                *filters -= entry.capabilities.as_ref().map_or(0, filter_len);
            }
            keep
        });
    }

    pub fn of(&self, peer: &PeerId) -> Option<&PeerCapabilities> {
        self.peers.get(peer)?.capabilities.as_ref()
    }

    /// Those whose filters say that they may have `cid`: connected ones first, of these the ones
    /// first that are less often wrong.
    pub fn holders(&self, cid: &Cid) -> Vec<PeerId> {
        let mut holders: Vec<(bool, u64, PeerId)> = Vec::new();
        for (peer, entry) in &self.peers {
            let Some(said) = entry.capabilities.as_ref().filter(|said| said.enabled) else {
                continue;
            };
            if let Some(filter) = &said.content
                && filter.is_telling()
                && filter.may_contain(cid)
            {
                // In thousandths: finer differences say nothing.
                let wrong = (filter.false_positives() * 1000.0) as u64;
                holders.push((entry.left.is_some(), wrong, *peer));
            }
        }
        holders.sort();
        holders.into_iter().map(|(_, _, peer)| peer).collect()
    }

    /// Whether there is a place for `peer`: the one who left first gives way, a connected one never.
    fn make_room(&mut self, peer: &PeerId) -> bool {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(peer) {
            return true;
        }
        let left = self.peers.iter().filter_map(|(peer, entry)| Some((entry.left?, *peer)));
        let Some((_, oldest)) = left.min() else { return false };
        let gone = self.peers.remove(&oldest).and_then(|entry| entry.capabilities);
        self.filters -= gone.as_ref().map_or(0, filter_len);
        true
    }
}

fn filter_len(said: &PeerCapabilities) -> usize {
    said.content.as_ref().map_or(0, |filter| filter.bits().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::block::{RAW, cid_of, sha256},
        exchange::capabilities::{
            bloom::{Bloom, Element, MAX_FILTER},
            message::IpfsKind,
        },
    };
    use libp2p::identity::Keypair;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn cid(name: &str) -> Cid {
        cid_of(cid::Version::V1, RAW, &sha256(name.as_bytes()))
    }

    fn having(names: &[&str], sequence: u64) -> PeerCapabilities {
        let elements: Vec<_> = names.iter().filter_map(|name| Element::of(&cid(name))).collect();
        let content = Some(Bloom::of(elements.into_iter()));
        PeerCapabilities {
            content,
            sequence,
            ..PeerCapabilities::inferred(IpfsKind::Tabpeer, None, true)
        }
    }

    fn tell(told: &mut Told, peer: PeerId, said: PeerCapabilities) -> bool {
        told.connected(peer, at(0));
        told.receive(peer, said)
    }

    #[test]
    fn holders_are_those_who_say_so_and_are_believed() {
        let mut told = Told::default();
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        let full = Bloom::from_parts(vec![0xff; 64].into(), 7).ok();
        tell(&mut told, peers[0], having(&["a"], 1));
        tell(&mut told, peers[1], having(&["b"], 1));
        tell(&mut told, peers[2], PeerCapabilities { content: full, ..having(&[], 1) });
        tell(&mut told, peers[3], PeerCapabilities { enabled: false, ..having(&["a"], 1) });
        tell(&mut told, peers[4], having(&["a", "b"], 1));
        assert_eq!(told.holders(&cid("b")), ordered([peers[1], peers[4]]));
        told.retain(&|peer| *peer != peers[0], at(1));
        assert_eq!(told.holders(&cid("a")), [peers[4], peers[0]]);
        assert_eq!(told.holders(&cid("c")), []);
        told.expire(at(1) + KEPT);
        assert_eq!(told.holders(&cid("a")), [peers[4]]);
        assert_eq!(told.of(&peers[0]), None);
    }

    fn ordered(mut peers: [PeerId; 2]) -> [PeerId; 2] {
        peers.sort();
        peers
    }

    #[test]
    fn older_news_of_a_connection_are_ignored() {
        let (mut told, peer) = (Told::default(), PeerId::random());
        assert!(tell(&mut told, peer, having(&["new"], 7)));
        assert!(!told.receive(peer, having(&["old"], 6)));
        assert_eq!(told.holders(&cid("new")), [peer]);
        // After a restart a peer may count anew.
        told.retain(&|_| false, at(1));
        assert!(told.receive(peer, having(&["old"], 1)));
    }

    #[test]
    fn a_did_that_is_not_the_peers_own_is_not_believed() {
        let mut told = Told::default();
        let peers = [1, 2].map(|_| Keypair::generate_ed25519().public().to_peer_id());
        for peer in peers {
            let did = did_of(&peers[0]);
            tell(&mut told, peer, PeerCapabilities { did, ..having(&[], 1) });
        }
        assert_eq!(told.of(&peers[0]).expect("known").did, did_of(&peers[0]));
        assert_eq!(told.of(&peers[1]).expect("known").did, None);
    }

    #[test]
    fn a_flood_is_not_read() {
        let (mut told, peer) = (Told::default(), PeerId::random());
        let read = (0..1000).filter(|_| told.admit(peer, at(0))).count();
        assert_eq!(read, BURST as usize);
        assert!(!told.admit(peer, at(4)) && told.admit(peer, at(5)) && !told.admit(peer, at(6)));
        assert!(told.admit(PeerId::random(), at(6)));
    }

    #[test]
    fn many_peers_with_large_filters_take_a_bounded_place() {
        let mut told = Told::default();
        let large = Bloom::from_parts(vec![0x11; MAX_FILTER].into(), 7).ok();
        let peers: Vec<PeerId> = (0..MAX_PEERS + 20).map(|_| PeerId::random()).collect();
        for (i, peer) in peers.iter().enumerate() {
            let large = PeerCapabilities { content: large.clone(), ..having(&[], 1) };
            assert_eq!(tell(&mut told, *peer, large), i < MAX_PEERS);
        }
        let kept = peers.iter().filter_map(|peer| told.of(peer));
        let filters: usize = kept.map(filter_len).sum();
        assert_eq!((told.filters, filters), (MAX_FILTERS, MAX_FILTERS));
        // Those who leave give way, the first first.
        told.retain(&|peer| *peer != peers[3], at(1));
        told.retain(&|peer| ![peers[3], peers[5]].contains(peer), at(2));
        assert!(tell(&mut told, PeerId::random(), having(&["x"], 1)));
        assert!(told.of(&peers[3]).is_none() && told.of(&peers[5]).is_some());
        told.retain(&|_| false, at(3));
        told.expire(at(2) + KEPT);
        assert_eq!(told.peers.len(), MAX_PEERS - 1);
        told.expire(at(3) + KEPT);
        assert_eq!((told.filters, told.peers.len()), (0, 0));
    }
}
