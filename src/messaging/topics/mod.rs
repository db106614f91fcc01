//! Topics: what is published under a name reaches everybody who subscribes to it, by
//! gossipsub, signed by its author. Pure parts; the network drives them (`network::topics`), the relay
//! uses the same.
//!
//! * [`payload`]: a message's bytes. [`subscription`]: what one subscriber has not taken yet, bounded.
//! * [`presence`]: who is on a topic, from gossipsub and from what relays tell ([`roster`]).
//! * [`exchange`]: what two peers say to each other of others on a topic; [`introductions`]: who to whom.
//! * [`judge`] and [`rate`]: how much is taken from whom.
//!
//! A message that a subscriber is too slow for is dropped, the oldest first, and it is told how many
//! ([`TopicEvent::Lagged`]); that somebody came or went is never dropped. Nobody hears their own
//! messages.

mod error;
pub mod exchange;
pub mod introductions;
pub mod judge;
pub mod payload;
pub mod presence;
pub mod rate;
pub mod roster;
mod subscription;

use cid::{Cid, Version};

use self::rate::{Flow, Rate};
pub use self::{
    error::TopicError,
    presence::Change,
    subscription::{Queue, Subscription, TopicEvent},
};
use crate::content::block::{RAW, cid_of, sha256};
use crate::platform::time::Duration;

/// Bytes of a topic's name. All that a relay carries must fit into one message of gossipsub's.
pub const MAX_TOPIC_NAME: usize = 200;
/// The largest message: bytes, or the text of JSON. What is larger is a file: publish its CID. (A
/// router keeps a queue of messages for each neighbour.)
pub const MAX_MESSAGE: usize = 128 * 1024;
/// Topics that one peer may subscribe to at once. The relay carries as many of each client.
pub const MAX_TOPICS: usize = 256;
/// Subscriptions to one topic within one peer.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Topics that a relay carries at once. Its clients keep the names, and js-libp2p takes 5000.
pub const MAX_CARRIED: usize = 4096;
/// Peers on one topic that are known of.
pub const MAX_MEMBERS: usize = 1000;
/// Who says that one peer is on a topic: itself and this many relays less one.
pub const MAX_SOURCES: usize = 8;
/// Messages that one subscription holds for its reader,
pub const MAX_QUEUED: usize = 4096;
/// and their bytes.
pub const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Messages that wait to be published,
pub const MAX_PUBLISHING: usize = 4096;
/// and their bytes.
pub const MAX_PUBLISHING_BYTES: usize = 16 << 20;
/// What one peer publishes at most; more waits its turn.
pub const PUBLISH_FLOW: Flow = Flow {
    messages: Rate { per_second: 3072, burst: 512 },
    bytes: Rate { per_second: 4 << 20, burst: 4 << 20 },
};
/// What is taken of one author, by routers too. More than an author of ours sends, and much at once:
/// on the way messages bunch.
pub const AUTHOR_FLOW: Flow = Flow {
    messages: Rate { per_second: 8192, burst: 16384 },
    bytes: Rate { per_second: 8 << 20, burst: 32 << 20 },
};
/// What is taken from one neighbour who is no relay of ours, whoever wrote it.
pub const NEIGHBOUR_FLOW: Flow = AUTHOR_FLOW.times(2);
/// What a peer takes of all together.
pub const TOTAL_FLOW: Flow = AUTHOR_FLOW.times(4);
/// Neighbours whose rates are remembered.
pub const MAX_NEIGHBOURS: usize = 8192;
/// Messages that a neighbour may send beyond its rate before it is not heard at all
pub const MAX_EXCESS: u32 = 4096;
/// for so long.
pub const PUNISHMENT: Duration = Duration::from_secs(10);
/// Authors whose rates are remembered.
pub const MAX_AUTHORS: usize = 4096;

/// The beat in which gossipsub mends its mesh.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a subscription waits for the mesh.
pub const MESH_WAIT: Duration = Duration::from_secs(5);
/// How long those are held to be there of whom we know through a relay that we have lost.
pub const GRACE: Duration = Duration::from_secs(15);

/// The CID whose providers in the DHT are the peers on a topic ("routing discovery").
pub fn topic_cid(name: &str) -> Cid {
    cid_of(Version::V1, RAW, &sha256(name.as_bytes()))
}

/// Whether `name` can be a topic's.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let reason = match name.len() {
        0 => "it is empty",
        1..=MAX_TOPIC_NAME => return Ok(()),
        _ => "it is too long",
    };
    Err(TopicError::BadTopic { name: name.chars().take(64).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_a_bearable_length() {
        assert_eq!(check_name("a"), Ok(()));
        assert_eq!(check_name(&"é".repeat(MAX_TOPIC_NAME / 2)), Ok(()));
        for bad in ["", &"x".repeat(MAX_TOPIC_NAME + 1)] {
            assert!(matches!(check_name(bad), Err(TopicError::BadTopic { .. })));
        }
    }

    /// As `ipfs add --cid-version=1 --raw-leaves` says of a file with this text.
    #[test]
    fn a_topic_is_found_under_the_cid_of_its_name() {
        let hello = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";
        assert_eq!(topic_cid("hello").to_string(), hello);
    }

    /// What a relay greets a client with.
    #[test]
    fn all_carried_topics_fit_into_one_message() {
        let one = MAX_TOPIC_NAME + 12;
        assert!(MAX_CARRIED * one < crate::network::config::MAX_GOSSIP_MESSAGE);
    }
}
