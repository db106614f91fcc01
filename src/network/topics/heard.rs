//! What gossipsub says: messages, who is on a topic; and who is a neighbour no more.

use libp2p::{
    PeerId,
    gossipsub::{Event, Message, MessageAcceptance, TopicHash},
};

use crate::messaging::topics::{MAX_TOPICS, judge::Verdict, payload, presence::Source};
use crate::network::event_loop::EventLoop;

/// Topics of one neighbour who is no relay; beyond, it is no neighbour.
const MAX_NEIGHBOUR_TOPICS: u32 = 4 * MAX_TOPICS as u32;
/// The score of a neighbour that is not heard: below every threshold of gossipsub's.
const UNHEARD: f64 = -1000.0;

impl EventLoop {
    pub(in crate::network) fn on_gossip(&mut self, event: Event) {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.on_message(propagation_source, message);
                self.swarm.behaviour_mut().gossipsub.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            Event::Subscribed { peer_id, topic } => self.on_subscribed(peer_id, &topic),
            Event::Unsubscribed { peer_id, topic } => {
                if let Some(topics) = self.topics.neighbours.get_mut(&peer_id) {
                    *topics = topics.saturating_sub(1);
                }
                if let Some(room) = self.topics.rooms.get_mut(topic.as_str()) {
                    room.neighbours.remove(&peer_id);
                    let change = room.presence.gone(peer_id, Source::Itself);
                    room.tell(change);
                }
            }
            Event::GossipsubNotSupported { .. } | Event::SlowPeer { .. } => {}
        }
    }

    /// Hands it to whoever is subscribed, and says whether it is to be passed on.
    fn on_message(&mut self, neighbour: PeerId, message: Message) -> MessageAcceptance {
        let Some(author) = message.source else { return MessageAcceptance::Reject };
        let (now, bytes) = (self.now(), message.data.len());
        let relay = self.keeper.index_of(neighbour).is_some();
        match self.topics.judge.judge(author, neighbour, relay, bytes, now) {
            Verdict::Take => {}
            Verdict::Drop => return MessageAcceptance::Ignore,
            Verdict::Punish => {
                tracing::debug!(%neighbour, "not heard for a while: it floods");
                let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
                gossipsub.set_application_score(&neighbour, UNHEARD);
                return MessageAcceptance::Ignore;
            }
        }
        let Some(value) = payload::decode(message.data) else { return MessageAcceptance::Reject };
        if let Some(room) = self.topics.rooms.get(message.topic.as_str()) {
            room.deliver(author, value);
        }
        // Who has nobody to pass it on to need not keep it for a while either.
        let mut mesh = self.swarm.behaviour().gossipsub.mesh_peers(&message.topic);
        match mesh.any(|peer| *peer != neighbour && *peer != author) {
            true => MessageAcceptance::Accept,
            false => MessageAcceptance::Ignore,
        }
    }

    fn on_subscribed(&mut self, peer: PeerId, topic: &TopicHash) {
        let topics = self.topics.neighbours.entry(peer).or_default();
        *topics += 1;
        if *topics > MAX_NEIGHBOUR_TOPICS && !self.may_carry(peer) {
            tracing::debug!(%peer, "closing the connections of a peer on too many topics");
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        let member = self.is_member(peer);
        let Some(room) = self.topics.rooms.get_mut(topic.as_str()) else { return };
        room.neighbours.insert(peer);
        if member {
            let change = room.presence.seen(peer, Source::Itself);
            room.tell(change);
        } else {
            self.on_carried(peer, topic.as_str());
        }
    }

    /// It is known now what the peer speaks.
    pub(in crate::network) fn on_topics_identified(&mut self, peer: PeerId) {
        if self.topics.rooms.is_empty() {
            return;
        }
        if !self.is_member(peer) {
            for room in self.topics.rooms.values_mut() {
                let change = room.presence.gone(peer, Source::Itself);
                room.tell(change);
            }
            return self.open_rosters();
        }
        let mut neighbours = self.swarm.behaviour().gossipsub.all_peers();
        let Some((_, topics)) = neighbours.find(|(id, _)| **id == peer) else { return };
        for topic in topics {
            if let Some(room) = self.topics.rooms.get_mut(topic.as_str()) {
                let change = room.presence.seen(peer, Source::Itself);
                room.tell(change);
            }
        }
    }

    /// The last connection with the peer is gone.
    pub(in crate::network) fn on_topics_disconnected(&mut self, peer: PeerId) {
        self.topics.neighbours.remove(&peer);
        let carried = self.topics.rosters.disconnected(peer);
        let now = self.now();
        for room in self.topics.rooms.values_mut() {
            room.neighbours.remove(&peer);
            let change = room.presence.parted(peer, now);
            room.tell(change);
            if carried {
                room.presence.lost(Source::Relay(peer), now);
            }
        }
    }
}
