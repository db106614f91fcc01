//! Messages that wait to be published: a peer that publishes a lot keeps to a rate that routers let
//! pass, and waits while its neighbours' queues are full.
//!
//! A call puts its message into the [`Outbox`] before it returns a future, so messages go out in the
//! order of the calls.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::gossipsub::{PublishError, TopicHash};
use tokio::sync::Notify;

use super::Reply;
use crate::messaging::topics::{
    MAX_PUBLISHING, MAX_PUBLISHING_BYTES, PUBLISH_FLOW, TopicError, rate::Meter,
};
use crate::network::event_loop::EventLoop;
use crate::platform::time::Duration;

/// How long to wait when the queues of all neighbours are full.
const FULL_WAIT: Duration = Duration::from_millis(10);

/// What the handles leave for the event loop.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// There is something new.
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

pub struct Waiting {
    pub topic: TopicHash,
    pub data: Vec<u8>,
    pub reply: Reply<bool>,
}

/// The event loop's part.
pub struct Publishing {
    outbox: Arc<Outbox>,
    /// What may be published now; nothing was yet.
    meter: Option<Meter>,
    /// Until when nothing can be.
    blocked: Duration,
}

impl Outbox {
    pub fn push(&self, message: Waiting) -> Result<(), TopicError> {
        let mut state = self.lock();
        if state.closed {
            return Err(TopicError::Closed);
        }
        let full = |what, limit| Err(TopicError::TooMany { what, limit });
        if state.waiting.len() >= MAX_PUBLISHING {
            return full("messages being published", MAX_PUBLISHING);
        }
        if state.bytes + message.data.len() > MAX_PUBLISHING_BYTES {
            return full("bytes of messages being published", MAX_PUBLISHING_BYTES);
        }
        state.bytes += message.data.len();
        state.waiting.push_back(message);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publishing {
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, meter: None, blocked: Duration::ZERO }
    }

    /// Resolves when there is something new.
    pub async fn woken(&self) {
        self.outbox.wake.notified().await;
    }

    pub fn next_wake(&self) -> Option<Duration> {
        let size = self.outbox.lock().waiting.front()?.data.len();
        let room = self.meter.as_ref().map(|meter| meter.room_at(PUBLISH_FLOW, size));
        Some(self.blocked.max(room.unwrap_or_default()))
    }

    /// Who waits is told that the network is closed.
    pub fn close(&self) {
        let mut state = self.outbox.lock();
        state.closed = true;
        state.waiting.clear();
    }

    /// The first message that waits, if it is time for it.
    fn take(&mut self, now: Duration) -> Option<Waiting> {
        let mut state = self.outbox.lock();
        // Nobody waits for these any more.
        while state.waiting.front()?.reply.is_closed() {
            let given_up = state.waiting.pop_front()?;
            state.bytes -= given_up.data.len();
        }
        let size = state.waiting.front()?.data.len();
        let meter = self.meter.get_or_insert_with(|| Meter::new(PUBLISH_FLOW, now));
        if now < self.blocked || !meter.take(PUBLISH_FLOW, size, now) {
            return None;
        }
        state.bytes -= size;
        state.waiting.pop_front()
    }

    /// It could not be published; later.
    fn put_back(&mut self, message: Waiting, now: Duration) {
        self.blocked = now + FULL_WAIT;
        let mut state = self.outbox.lock();
        state.bytes += message.data.len();
        state.waiting.push_front(message);
    }
}

impl EventLoop {
    /// Publishes what may be published now.
    pub(super) fn publish_waiting(&mut self) {
        let now = self.now();
        while let Some(message) = self.topics.publishing.take(now) {
            let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
            let published = gossipsub.publish(message.topic.clone(), message.data.clone());
            let outcome = match published {
                Ok(_) => Ok(true),
                Err(PublishError::NoPeersSubscribedToTopic) => Ok(false),
                Err(PublishError::AllQueuesFull(_)) => {
                    return self.topics.publishing.put_back(message, now);
                }
                Err(error) => Err(TopicError::NotPublished { reason: error.to_string() }),
            };
            let _ = message.reply.send(outcome);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}
