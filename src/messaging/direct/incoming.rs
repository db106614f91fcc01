//! The messages that came under one protocol, as the app takes them: in order for each peer, one at a
//! time for each peer, the peers in turn.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use libp2p::{PeerId, StreamProtocol};

use super::{hub::Hub, value::Value};
use crate::boxmap::BoxMap;

/// The messages of a started protocol. Dropping it stops the protocol; what was not taken until then
/// was not acknowledged.
pub struct Incoming {
    hub: Arc<Hub>,
    protocol: StreamProtocol,
    mailbox: Arc<Mailbox>,
}

/// A message. The next of its peer comes when this one is dropped.
pub struct Message {
    pub from: PeerId,
    pub value: Value,
    _turn: Turn,
}

/// Between the driver and an [`Incoming`]. The links bound what a peer has in here, the driver what
/// all have.
pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Bytes in all mailboxes.
    untaken: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    peers: BoxMap<PeerId, Waiting>,
    /// Peers whose turn it may be, in turn. Each is here or busy, or both if it has come back.
    ready: VecDeque<PeerId>,
    taken: Vec<(PeerId, u64)>,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<(u64, Value)>,
    /// The app has one of its messages.
    busy: bool,
}

/// While it is there, the app is busy with a message of this peer.
struct Turn {
    mailbox: Arc<Mailbox>,
    peer: PeerId,
}

impl Incoming {
    pub(super) fn new(hub: Arc<Hub>, protocol: StreamProtocol, mailbox: Arc<Mailbox>) -> Self {
        Self { hub, protocol, mailbox }
    }

    /// The next message, which is acknowledged by that; `None` when the protocol was stopped or the
    /// network closed.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.mailbox.poll(cx);
        if let Poll::Ready(Some(_)) = &next {
            self.hub.wake.notify_one();
        }
        next
    }
}

impl futures::Stream for Incoming {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll(cx)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.hub.stop(self.protocol.as_ref(), Some(&self.mailbox));
    }
}

impl Mailbox {
    pub(super) fn new(untaken: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), untaken }
    }

    pub(super) fn deliver(&self, peer: PeerId, number: u64, value: Value) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        self.untaken.fetch_add(value.size(), Ordering::Relaxed);
        let waiting = state.peers.entry(peer).or_default();
        waiting.messages.push_back((number, value));
        if waiting.messages.len() == 1 && !waiting.busy {
            state.ready.push_back(peer);
            wake(state);
        }
    }

    /// The messages that the app has taken since the last time, by peer and number.
    pub(super) fn drain_taken(&self) -> Vec<(PeerId, u64)> {
        std::mem::take(&mut self.lock().taken)
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ready.clear();
        let peers = std::mem::take(&mut state.peers);
        let each = peers.values().flat_map(|waiting| &waiting.messages);
        let bytes = each.map(|(_, value)| value.size()).sum();
        self.untaken.fetch_sub(bytes, Ordering::Relaxed);
        wake(state);
    }

    fn poll(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(None);
        }
        while let Some(peer) = state.ready.pop_front() {
            let Some(waiting) = state.peers.get_mut(&peer) else { continue };
            let Some((number, value)) = waiting.messages.pop_front() else { continue };
            waiting.busy = true;
            self.untaken.fetch_sub(value.size(), Ordering::Relaxed);
            state.taken.push((peer, number));
            let turn = Turn { mailbox: self.clone(), peer };
            return Poll::Ready(Some(Message { from: peer, value, _turn: turn }));
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

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.mailbox.lock();
        let Some(waiting) = state.peers.get_mut(&self.peer) else { return };
        waiting.busy = false;
        if waiting.messages.is_empty() {
            state.peers.remove(&self.peer);
        } else {
            state.ready.push_back(self.peer);
            wake(state);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, value, .. } = self;
        f.debug_struct("Message").field("from", from).field("value", value).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Arc::default()))
    }

    fn next(mailbox: &Arc<Mailbox>) -> Option<Message> {
        poll_fn(|cx| mailbox.poll(cx)).now_or_never().flatten()
    }

    fn text(text: &str) -> Value {
        Value::Json(text.to_owned())
    }

    #[test]
    fn a_peer_whose_message_is_handled_waits_and_others_do_not() {
        let mailbox = mailbox();
        let (a, b) = (PeerId::random(), PeerId::random());
        for (number, peer) in [(1, a), (2, a), (3, b), (4, a)] {
            mailbox.deliver(peer, number, text(&number.to_string()));
        }
        let first = next(&mailbox).expect("a message");
        assert_eq!((first.from, &first.value), (a, &text("1")));
        let other = next(&mailbox).expect("a message");
        assert_eq!((other.from, &other.value), (b, &text("3")));
        assert!(next(&mailbox).is_none());
        drop(first);
        assert_eq!(next(&mailbox).expect("a message").value, text("2"));
        assert_eq!(next(&mailbox).expect("a message").value, text("4"));
        assert_eq!(mailbox.drain_taken(), [(a, 1), (b, 3), (a, 2), (a, 4)]);
        assert_eq!(mailbox.untaken.load(Ordering::Relaxed), 0);
        drop(other);
        assert!(mailbox.lock().peers.is_empty());
    }

    #[test]
    fn what_is_not_taken_is_gone_with_a_close() {
        let mailbox = mailbox();
        let peer = PeerId::random();
        mailbox.deliver(peer, 1, text("1"));
        mailbox.deliver(peer, 2, text("2"));
        let first = next(&mailbox).expect("a message");
        assert_eq!(mailbox.untaken.load(Ordering::Relaxed), 1);
        mailbox.close();
        drop(first);
        mailbox.deliver(peer, 3, text("3"));
        assert!(poll_fn(|cx| mailbox.poll(cx)).now_or_never().is_some_and(|next| next.is_none()));
        assert_eq!(mailbox.drain_taken(), [(peer, 1)]);
        assert_eq!(mailbox.untaken.load(Ordering::Relaxed), 0);
    }
}
