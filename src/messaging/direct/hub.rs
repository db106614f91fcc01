//! What the handles and receivers share with the driver: what one side leaves for the other. Nobody
//! waits here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Notify, oneshot};

use super::{
    DirectError, Incoming, MAX_SENDING, MAX_SENDING_BYTES, MAX_STARTED, incoming::Mailbox,
    value::Value,
};
use crate::network::{IncomingStreams, Stream};

#[derive(Default)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// There is something new here or in a mailbox.
    pub(super) wake: Notify,
    /// Bytes in all mailboxes.
    pub(super) untaken: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    closed: bool,
    seq: u64,
    /// Sends that have not come to an end, and the bytes of their values.
    sending: usize,
    sending_bytes: usize,
    sends: Vec<NewSend>,
    cancelled: Vec<u64>,
    started: Vec<Started>,
    /// `started` is not what the driver knows.
    changed: bool,
    /// Whose streams are looked at first.
    turn: usize,
}

/// A call of `send`.
pub(super) struct NewSend {
    /// Set by [`Hub::send`]; those of one caller ascend.
    pub seq: u64,
    pub peer: PeerId,
    pub protocol: StreamProtocol,
    pub value: Value,
    pub reply: oneshot::Sender<Result<(), DirectError>>,
}

struct Started {
    protocol: StreamProtocol,
    streams: IncomingStreams,
    mailbox: Arc<Mailbox>,
}

/// What the driver finds here.
#[derive(Default)]
pub(super) struct Work {
    pub sends: Vec<NewSend>,
    pub cancelled: Vec<u64>,
    /// The protocols that are started, if that has changed.
    pub started: Option<Vec<(StreamProtocol, Arc<Mailbox>)>>,
}

impl Hub {
    pub(super) fn send(&self, mut send: NewSend) -> Result<u64, DirectError> {
        let mut state = self.lock();
        if state.closed {
            return Err(DirectError::Closed);
        }
        if state.sending >= MAX_SENDING {
            return Err(DirectError::Busy { what: "messages being sent", limit: MAX_SENDING });
        }
        let bytes = state.sending_bytes + send.value.size();
        if bytes > MAX_SENDING_BYTES {
            let what = "bytes of messages being sent";
            return Err(DirectError::Busy { what, limit: MAX_SENDING_BYTES });
        }
        (state.sending, state.sending_bytes) = (state.sending + 1, bytes);
        state.seq += 1;
        send.seq = state.seq;
        state.sends.push(send);
        let seq = state.seq;
        drop(state);
        self.wake.notify_one();
        Ok(seq)
    }

    /// A send has come to an end.
    pub(super) fn sent(&self, bytes: usize) {
        let mut state = self.lock();
        state.sending = state.sending.saturating_sub(1);
        state.sending_bytes = state.sending_bytes.saturating_sub(bytes);
    }

    /// Nobody waits for this one any more.
    pub(super) fn cancel(&self, seq: u64) {
        let mut state = self.lock();
        let new = state.sends.iter().position(|send| send.seq == seq);
        if let Some(at) = new {
            let bytes = state.sends.remove(at).value.size();
            (state.sending, state.sending_bytes) =
                (state.sending.saturating_sub(1), state.sending_bytes.saturating_sub(bytes));
        } else if !state.closed {
            state.cancelled.push(seq);
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn start(
        self: &Arc<Self>,
        protocol: StreamProtocol,
        streams: IncomingStreams,
    ) -> Result<Incoming, DirectError> {
        let mailbox = Arc::new(Mailbox::new(self.untaken.clone()));
        let mut state = self.lock();
        if state.closed {
            return Err(DirectError::Closed);
        }
        if state.started.len() >= MAX_STARTED {
            return Err(DirectError::Busy { what: "protocols started", limit: MAX_STARTED });
        }
        let started = Started { protocol: protocol.clone(), streams, mailbox: mailbox.clone() };
        state.started.push(started);
        state.changed = true;
        drop(state);
        self.wake.notify_one();
        Ok(Incoming::new(self.clone(), protocol, mailbox))
    }

    /// `only`: not if somebody else has started it since.
    pub(super) fn stop(&self, protocol: &str, only: Option<&Arc<Mailbox>>) {
        let mut state = self.lock();
        let meant = |started: &Started| {
            started.protocol.as_ref() == protocol
                && only.is_none_or(|only| Arc::ptr_eq(only, &started.mailbox))
        };
        let Some(at) = state.started.iter().position(meant) else { return };
        // With the streams the protocol is no longer accepted, and can be started again at once.
        let stopped = state.started.swap_remove(at);
        state.changed = true;
        drop(state);
        stopped.mailbox.close();
        self.wake.notify_one();
    }

    /// Everything that was left for the driver; what was sent and cancelled since is not there.
    pub(super) fn take_work(&self) -> Work {
        let mut state = self.lock();
        let started = std::mem::take(&mut state.changed).then(|| {
            let each = state.started.iter();
            each.map(|started| (started.protocol.clone(), started.mailbox.clone())).collect()
        });
        Work {
            sends: std::mem::take(&mut state.sends),
            cancelled: std::mem::take(&mut state.cancelled),
            started,
        }
    }

    /// The next stream that a peer opens for a started protocol.
    pub(super) fn poll_streams(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<(StreamProtocol, PeerId, Stream)> {
        let mut state = self.lock();
        let (turn, count) = (state.turn, state.started.len());
        for at in (0..count).map(|step| (turn + step) % count) {
            let Some(started) = state.started.get_mut(at) else { continue };
            let next = futures::Stream::poll_next(std::pin::Pin::new(&mut started.streams), cx);
            if let Poll::Ready(Some((peer, stream))) = next {
                let protocol = started.protocol.clone();
                state.turn = at + 1;
                return Poll::Ready((protocol, peer, stream));
            }
        }
        Poll::Pending
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let started = std::mem::take(&mut state.started);
        // Their callers are told by that.
        state.sends.clear();
        drop(state);
        for started in started {
            started.mailbox.close();
        }
        self.wake.notify_one();
    }

    pub(super) fn untaken_bytes(&self) -> usize {
        self.untaken.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
