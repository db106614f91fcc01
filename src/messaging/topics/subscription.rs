//! What has come for one subscriber and was not taken yet: messages up to a bound, the oldest
//! dropped and counted beyond it; and who came and went, one entry for each peer.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use libp2p::PeerId;
use tokio::sync::Notify;

use super::{Change, MAX_QUEUED, MAX_QUEUED_BYTES};
use crate::boxmap::BoxMap;
use crate::messaging::direct::Value;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicEvent {
    /// `from` is who wrote and signed it, not who brought it.
    Message { from: PeerId, value: Value },
    /// Somebody subscribed to the topic or unsubscribed.
    Peer(Change),
    /// So many messages were dropped here, because they were not taken in time.
    Lagged(u64),
}

/// A subscription. Dropping it unsubscribes.
pub struct Subscription {
    topic: String,
    queue: Arc<Queue>,
}

/// Between the network and a [`Subscription`].
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Told when the subscription is gone.
    dropped: Arc<Notify>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<(PeerId, Value)>,
    bytes: usize,
    lagged: u64,
    /// What has changed since it was told; both ways is no change.
    changes: BoxMap<PeerId, bool>,
    closed: bool,
    waker: Option<Waker>,
}

impl Subscription {
    pub(crate) fn new(topic: String, queue: Arc<Queue>) -> Self {
        Self { topic, queue }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next event; `None` when it was closed, or the network was.
    pub async fn next(&mut self) -> Option<TopicEvent> {
        self.queue.next().await
    }

    /// A handle to take events and to [`close`](Queue::close) it with, whoever holds the subscription.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }
}

impl futures::Stream for Subscription {
    type Item = TopicEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TopicEvent>> {
        self.queue.poll(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Queue {
    /// `dropped` is told when nobody listens any more.
    pub fn new(dropped: Arc<Notify>) -> Self {
        Self { state: Mutex::default(), dropped }
    }

    /// The next event; `None` when it is closed.
    pub async fn next(&self) -> Option<TopicEvent> {
        poll_fn(|cx| self.poll(cx)).await
    }

    pub(crate) fn message(&self, from: PeerId, value: Value) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.bytes += value.size();
        state.messages.push_back((from, value));
        while state.messages.len() > MAX_QUEUED || state.bytes > MAX_QUEUED_BYTES {
            let Some((_, oldest)) = state.messages.pop_front() else { break };
            state.bytes -= oldest.size();
            state.lagged += 1;
        }
        wake(state);
    }

    pub(crate) fn change(&self, change: Change) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        match state.changes.remove(&change.peer) {
            // Came and went meanwhile, or the other way round.
            Some(before) if before != change.joined => {}
            _ => drop(state.changes.insert(change.peer, change.joined)),
        }
        wake(state);
    }

    /// Nothing more comes, and what was not taken is gone.
    pub fn close(&self) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.closed, true);
        state.messages.clear();
        state.changes.clear();
        wake(state);
        if !before {
            self.dropped.notify_one();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<TopicEvent>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(None);
        }
        if let Some((peer, joined)) = state.changes.pop_first() {
            return Poll::Ready(Some(TopicEvent::Peer(Change { peer, joined })));
        }
        if state.lagged > 0 {
            let lagged = std::mem::take(&mut state.lagged);
            return Poll::Ready(Some(TopicEvent::Lagged(lagged)));
        }
        if let Some((from, value)) = state.messages.pop_front() {
            state.bytes -= value.size();
            return Poll::Ready(Some(TopicEvent::Message { from, value }));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn subscription() -> (Arc<Queue>, Subscription) {
        let queue = Arc::<Queue>::default();
        (queue.clone(), Subscription::new("t".into(), queue))
    }

    fn json(n: usize) -> Value {
        Value::Json(n.to_string())
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let (queue, mut subscription) = subscription();
        let from = PeerId::random();
        for n in 0..MAX_QUEUED + 3 {
            queue.message(from, json(n));
        }
        let mut next = || subscription.next().now_or_never().flatten();
        assert_eq!(next(), Some(TopicEvent::Lagged(3)));
        assert_eq!(next(), Some(TopicEvent::Message { from, value: json(3) }));
        queue.message(from, json(0));
        queue.message(from, json(1));
        assert_eq!(next(), Some(TopicEvent::Lagged(1)));
        assert_eq!(next(), Some(TopicEvent::Message { from, value: json(5) }));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (queue, mut subscription) = subscription();
        let size = 128 * 1024;
        let fit = MAX_QUEUED_BYTES / size;
        for _ in 0..fit + 1 {
            queue.message(PeerId::random(), Value::Bytes(vec![0; size].into()));
        }
        let mut count = 0;
        while let Some(event) = subscription.next().now_or_never().flatten() {
            match event {
                TopicEvent::Message { .. } => count += 1,
                other => assert_eq!(other, TopicEvent::Lagged(1)),
            }
        }
        assert_eq!((count, queue.lock().bytes), (fit, 0));
    }

    #[test]
    fn comings_and_goings_are_told_once_and_first() {
        let (queue, mut subscription) = subscription();
        let [a, b] = [PeerId::random(), PeerId::random()];
        queue.message(a, json(1));
        for (peer, joined) in [(a, true), (b, true), (b, false), (a, false), (a, true)] {
            queue.change(Change { peer, joined });
        }
        let mut next = || subscription.next().now_or_never().flatten();
        assert_eq!(next(), Some(TopicEvent::Peer(Change { peer: a, joined: true })));
        assert!(matches!(next(), Some(TopicEvent::Message { .. })));
        assert_eq!(next(), None);
        queue.change(Change { peer: a, joined: false });
        assert_eq!(next(), Some(TopicEvent::Peer(Change { peer: a, joined: false })));
    }

    #[test]
    fn a_closed_subscription_ends_and_says_so_once() {
        let dropped = Arc::new(Notify::new());
        let queue = Arc::new(Queue::new(dropped.clone()));
        let mut subscription = Subscription::new("t".into(), queue.clone());
        queue.message(PeerId::random(), json(1));
        queue.close();
        assert_eq!(subscription.next().now_or_never(), Some(None));
        assert!(dropped.notified().now_or_never().is_some());
        drop(subscription);
        assert!(dropped.notified().now_or_never().is_none());
        queue.message(PeerId::random(), json(2));
        assert!(queue.is_closed() && queue.lock().messages.is_empty());
    }
}
