//! Gossipsub 1.1 as this project's peers and relays set it up, and what libp2p's leaves unbounded
//! bounded: the topics kept of each neighbour, messages on topics that nobody here
//! wants and floods ([`Gate`]), which it would cache for some seconds, however many.
//!
//! Messages are signed by their author and checked before anything else happens with them. They are
//! passed on when the owner of the swarm has judged them (`validate_messages`).
//!
//! Scores: who sends what is no message, or far too much, is scored down by the owner
//! (`set_application_score`); broken promises and grafts against a backoff count a little. Not counted:
//! how many peers share an address, as the clients of a relay do; how slow a peer is, which would take
//! a page out of its only mesh for a minute because it was busy for a second.
//!
//! A message's id is what js-libp2p makes of it: the author's key, then the sequence number. Those who
//! disagree about ids ask each other for what they have, and count it as broken promises. (Go puts two
//! more bytes in front. libp2p's own default agrees with nobody.)

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::{gossipsub, identity::Keypair};

use crate::boxmap::BoxSet;
use crate::messaging::topics::{
    HEARTBEAT, MAX_CARRIED, MAX_TOPIC_NAME, MAX_TOPICS, payload,
    rate::{Flow, Meter},
};
use crate::platform::time::{Duration, Instant};

/// How long a message's id is remembered, so that it is not delivered twice.
const DUPLICATES: Duration = Duration::from_secs(60);
/// How soon after unsubscribing the mesh may take us back. Short: pages unsubscribe and subscribe
/// again at once when a view is built anew.
const UNSUBSCRIBE_BACKOFF: Duration = Duration::from_secs(1);
/// How long a score outlives the connection.
const SCORE_RETENTION: Duration = Duration::from_secs(60);
/// Messages that wait for one neighbour's stream.
const SEND_QUEUE: usize = 1024;
/// How long a message may wait for it. The queue's length bounds what waits; the time only ends what
/// came too late to be of use.
const QUEUE_TIME: Duration = Duration::from_secs(20);
/// From this size on, a neighbour is told not to send what has come already. Telling costs it and us
/// what a small message does, and who hears a topic through a relay has nobody to tell.
const TOLD_FROM: usize = 16 * 1024;
/// Messages in one frame of gossipsub's.
const MAX_MESSAGES_PER_FRAME: usize = 1024;

/// Gossipsub with these bounds.
pub type Gossip = gossipsub::Behaviour<Gate, TopicFilter>;

/// Overlooks what a neighbour subscribes to beyond a number.
pub type TopicFilter = gossipsub::MaxCountSubscriptionFilter<BearableName>;

/// What differs between a peer and a relay.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// The largest frame: a message with its author, signature and topic.
    pub max_frame: usize,
    /// Topics kept of one neighbour.
    pub topics_per_neighbour: usize,
    /// To how many neighbours on a topic each message goes directly; `None`: gossipsub's usual few.
    pub mesh: Option<usize>,
    /// What is let in of all together.
    pub flow: Flow,
}

impl Role {
    /// A peer. Its relay may carry many topics.
    pub const fn peer(max_frame: usize, flow: Flow) -> Self {
        Self { max_frame, topics_per_neighbour: MAX_CARRIED + MAX_TOPICS, mesh: None, flow }
    }

    /// A relay: its clients are neighbours of nobody else, so each is in the mesh.
    pub const fn hub(max_frame: usize, clients: usize, flow: Flow) -> Self {
        Self { max_frame, topics_per_neighbour: 2 * MAX_TOPICS, mesh: Some(clients), flow }
    }
}

/// Why gossipsub cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("gossipsub: {0}")]
pub struct GossipError(String);

/// Gossipsub, and the gate before it.
pub fn gossip(keypair: Keypair, role: Role) -> Result<(Gossip, Gate), GossipError> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(role.max_frame)
        // One greeting names all topics of a relay.
        .max_control_message_size(role.max_frame)
        .max_publish_messages(MAX_MESSAGES_PER_FRAME)
        .idontwant_message_size_threshold(TOLD_FROM)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .heartbeat_interval(HEARTBEAT)
        .duplicate_cache_time(DUPLICATES)
        .unsubscribe_backoff(UNSUBSCRIBE_BACKOFF)
        .connection_handler_queue_len(SEND_QUEUE)
        .publish_queue_duration(QUEUE_TIME)
        .forward_queue_duration(QUEUE_TIME)
        .flood_publish(true)
        .prune_peers(0);
    if let Some(mesh) = role.mesh {
        config.mesh_n(mesh).mesh_n_low(mesh).mesh_n_high(mesh).mesh_outbound_min(0);
    }
    let config = config.build().map_err(|error| GossipError(error.to_string()))?;
    let gate = Gate::new(role.flow);
    let mut gossip = Gossip::new_with_subscription_filter_and_transform(
        gossipsub::MessageAuthenticity::Signed(keypair),
        config,
        TopicFilter {
            filter: BearableName,
            max_subscribed_topics: role.topics_per_neighbour,
            max_subscriptions_per_request: 2 * role.topics_per_neighbour,
        },
        gate.clone(),
    )
    .map_err(|error| GossipError(error.to_owned()))?;
    gossip
        .with_peer_score(scores(), gossipsub::PeerScoreThresholds::default())
        .map_err(GossipError)?;
    Ok((gossip, gate))
}

fn scores() -> gossipsub::PeerScoreParams {
    gossipsub::PeerScoreParams {
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        slow_peer_weight: 0.0,
        behaviour_penalty_weight: -0.5,
        behaviour_penalty_threshold: 20.0,
        behaviour_penalty_decay: 0.5,
        retain_score: SCORE_RETENTION,
        ..gossipsub::PeerScoreParams::default()
    }
}

/// The key of an Ed25519 author is in its id, behind two bytes that say so.
fn message_id(message: &gossipsub::Message) -> gossipsub::MessageId {
    let mut id = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    if id.starts_with(&[0, 36]) {
        id.drain(..2);
    }
    id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
    id.into()
}

/// Lets messages in: those of a bearable size on topics that are wanted here, as many as can be dealt
/// with. What it refuses leaves no trace in gossipsub. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<Gated>>);

struct Gated {
    topics: BoxSet<String>,
    flow: Flow,
    meter: Meter,
    started: Instant,
}

impl Gate {
    fn new(flow: Flow) -> Self {
        let (topics, meter) = (BoxSet::new(), Meter::new(flow, Duration::ZERO));
        Self(Arc::new(Mutex::new(Gated { topics, flow, meter, started: Instant::now() })))
    }

    /// Messages on this topic are wanted from now on.
    pub fn open(&self, topic: &str) {
        self.with(|gated| gated.topics.insert(topic.to_owned()));
    }

    pub fn shut(&self, topic: &str) {
        self.with(|gated| gated.topics.remove(topic));
    }

    fn lets_in(&self, message: &gossipsub::RawMessage) -> bool {
        self.with(|gated| {
            let now = gated.started.elapsed();
            gated.topics.contains(message.topic.as_str())
                && payload::fits(message.data.len())
                && gated.meter.take(gated.flow, message.data.len(), now)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Gated) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl gossipsub::DataTransform for Gate {
    fn inbound_transform(
        &self,
        message: gossipsub::RawMessage,
    ) -> Result<gossipsub::Message, io::Error> {
        if !self.lets_in(&message) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let gossipsub::RawMessage { source, data, sequence_number, topic, .. } = message;
        Ok(gossipsub::Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(
        &self,
        _: &gossipsub::TopicHash,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}

/// No topic's name is longer than this peer's own may be.
pub struct BearableName;

impl gossipsub::TopicSubscriptionFilter for BearableName {
    fn can_subscribe(&mut self, topic: &gossipsub::TopicHash) -> bool {
        topic.as_str().len() <= MAX_TOPIC_NAME
    }
}

#[cfg(test)]
mod tests {
    use gossipsub::DataTransform as _;
    use libp2p::PeerId;

    use super::*;
    use crate::messaging::topics::{MAX_MESSAGE, PUBLISH_FLOW};

    fn message(topic: &str, len: usize) -> gossipsub::RawMessage {
        gossipsub::RawMessage {
            source: Some(PeerId::random()),
            data: vec![b'x'; len],
            sequence_number: Some(1),
            topic: gossipsub::TopicHash::from_raw(topic),
            signature: None,
            key: None,
            validated: false,
        }
    }

    #[test]
    fn the_gate_is_open_for_wanted_topics_only_and_not_for_floods() {
        let gate = Gate::new(PUBLISH_FLOW);
        let comes = |message| gate.inbound_transform(message).is_ok();
        assert!(!comes(message("a", 1)));
        gate.open("a");
        assert!(comes(message("a", 1)) && !comes(message("b", 1)));
        assert!(!comes(message("a", 2 * MAX_MESSAGE)));
        let through = (0..20_000).filter(|_| comes(message("a", 1))).count();
        let burst = PUBLISH_FLOW.messages.burst as usize;
        assert!((burst - 1..15_000).contains(&through), "{through}");
        gate.shut("a");
        assert!(!comes(message("a", 1)));
    }

    #[test]
    fn ids_are_those_of_js_libp2p() {
        let key = Keypair::generate_ed25519();
        let source = Some(key.public().to_peer_id());
        let message = gossipsub::Message {
            source,
            data: Vec::new(),
            sequence_number: Some(0x0102),
            topic: gossipsub::TopicHash::from_raw("t"),
        };
        let expected = [key.public().encode_protobuf(), 0x0102_u64.to_be_bytes().to_vec()].concat();
        assert_eq!(message_id(&message).0, expected);
    }
}
