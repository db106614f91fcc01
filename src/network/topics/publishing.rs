//! Messages that wait to be published: a peer that publishes a lot keeps to a rate that routers let
//! pass, and waits while its neighbours' queues are full.

use std::collections::VecDeque;

use libp2p::gossipsub::{PublishError, TopicHash};

use super::Reply;
use crate::messaging::topics::{
    MAX_PUBLISHING, MAX_PUBLISHING_BYTES, PUBLISH_FLOW, TopicError, rate::Meter,
};
use crate::network::event_loop::EventLoop;
use crate::platform::time::Duration;

/// How long to wait when the queues of all neighbours are full.
const FULL_WAIT: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Publishing {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// What may be published now; none was yet.
    meter: Option<Meter>,
    /// Until when nothing can be.
    blocked: Duration,
}

struct Waiting {
    topic: TopicHash,
    data: Vec<u8>,
    reply: Reply<bool>,
}

impl Publishing {
    pub fn next_wake(&self) -> Option<Duration> {
        let first = self.waiting.front()?;
        let room = self.meter.as_ref().map(|meter| meter.room_at(PUBLISH_FLOW, first.data.len()));
        Some(self.blocked.max(room.unwrap_or_default()))
    }

    /// Who waits is told that the network is closed.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The first message that waits, if it is time for it.
    fn take(&mut self, now: Duration) -> Option<Waiting> {
        let first = self.waiting.front()?;
        let meter = self.meter.get_or_insert_with(|| Meter::new(PUBLISH_FLOW, now));
        if now < self.blocked || !meter.take(PUBLISH_FLOW, first.data.len(), now) {
            return None;
        }
        let first = self.waiting.pop_front()?;
        self.bytes -= first.data.len();
        Some(first)
    }
}

impl EventLoop {
    pub(super) fn publish_message(&mut self, topic: String, data: Vec<u8>, reply: Reply<bool>) {
        let publishing = &mut self.topics.publishing;
        let full = |what, limit| Err(TopicError::TooMany { what, limit });
        if publishing.waiting.len() >= MAX_PUBLISHING {
            let _ = reply.send(full("messages being published", MAX_PUBLISHING));
            return;
        }
        if publishing.bytes + data.len() > MAX_PUBLISHING_BYTES {
            let what = "bytes of messages being published";
            let _ = reply.send(full(what, MAX_PUBLISHING_BYTES));
            return;
        }
        publishing.bytes += data.len();
        publishing.waiting.push_back(Waiting { topic: TopicHash::from_raw(topic), data, reply });
        self.publish_waiting();
    }

    /// Publishes what may be published now.
    pub(super) fn publish_waiting(&mut self) {
        let now = self.now();
        while let Some(Waiting { topic, data, reply }) = self.topics.publishing.take(now) {
            if reply.is_closed() {
                continue;
            }
            let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
            let outcome = match gossipsub.publish(topic.clone(), data.clone()) {
                Ok(_) => Ok(true),
                Err(PublishError::NoPeersSubscribedToTopic) => Ok(false),
                Err(PublishError::AllQueuesFull(_)) => {
                    let publishing = &mut self.topics.publishing;
                    publishing.blocked = now + FULL_WAIT;
                    publishing.bytes += data.len();
                    publishing.waiting.push_front(Waiting { topic, data, reply });
                    return;
                }
                Err(error) => Err(TopicError::NotPublished { reason: error.to_string() }),
            };
            let _ = reply.send(outcome);
        }
    }
}
