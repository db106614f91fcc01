//! A source session that is an async function: orders reach it through a mailbox, what it says
//! comes back through a channel. It runs while it is polled and ends when it is dropped.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use cid::Cid;
use futures::{SinkExt as _, Stream as _, channel::mpsc};
use tokio::sync::Notify;

use super::source::{SourceEvent, SourceSession};
use crate::platform::{BoxFuture, MaybeSend};

/// Events that wait to be taken.
const QUEUE: usize = 8;

/// What the session is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub want: Vec<Cid>,
    pub cancel: Vec<Cid>,
}

/// Where orders wait. Bounded by the chain, which bounds what is wanted.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Orders>,
    changed: Notify,
}

impl Mailbox {
    /// Resolves as soon as there are orders. Losing the future loses none.
    pub async fn next(&self) -> Orders {
        loop {
            let orders = std::mem::take(&mut *self.lock());
            if orders != Orders::default() {
                return orders;
            }
            self.changed.notified().await;
        }
    }

    fn put(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the function says what happens.
#[derive(Clone)]
pub(super) struct Events(mpsc::Sender<SourceEvent>);

impl Events {
    pub async fn say(&mut self, event: SourceEvent) {
        // Fails only when the session was dropped, and this future with it.
        let _ = self.0.send(event).await;
    }

    /// Says it unless the queue is full.
    pub fn try_say(&mut self, event: SourceEvent) {
        let _ = self.0.try_send(event);
    }
}

pub(super) struct Driven {
    mailbox: Arc<Mailbox>,
    work: Option<BoxFuture<()>>,
    events: mpsc::Receiver<SourceEvent>,
}

impl Driven {
    pub fn start<F>(work: impl FnOnce(Arc<Mailbox>, Events) -> F) -> Box<dyn SourceSession>
    where
        F: Future<Output = ()> + MaybeSend + 'static,
    {
        let mailbox = Arc::new(Mailbox::default());
        let (sender, events) = mpsc::channel(QUEUE);
        let work = work(mailbox.clone(), Events(sender));
        Box::new(Self { mailbox, work: Some(Box::pin(work)), events })
    }
}

impl SourceSession for Driven {
    fn want(&mut self, cids: &[Cid]) {
        self.mailbox.put(|orders| orders.want.extend_from_slice(cids));
    }

    fn cancel(&mut self, cids: &[Cid]) {
        self.mailbox.put(|orders| {
            orders.want.retain(|cid| !cids.contains(cid));
            orders.cancel.extend_from_slice(cids);
        });
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>> {
        loop {
            if let Poll::Ready(event) = Pin::new(&mut self.events).poll_next(cx) {
                return Poll::Ready(event);
            }
            let Some(work) = &mut self.work else { return Poll::Pending };
            if work.as_mut().poll(cx).is_ready() {
                // Drops its sender; what is queued still comes out.
                self.work = None;
            } else if let Poll::Ready(event) = Pin::new(&mut self.events).poll_next(cx) {
                return Poll::Ready(event);
            } else {
                return Poll::Pending;
            }
        }
    }
}
