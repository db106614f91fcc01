//! What a download tells while it goes on, with the names and fields of the chunk download
//! specification, and the queue in which it waits for a listener: bounded, and nothing but progress
//! is ever left out.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use libp2p::PeerId;

use crate::content::block::Cid;

/// Events that wait for the listener. With as many, progress is left out and the download waits
/// before it begins or ends another chunk.
pub const MAX_EVENTS: usize = 256;

/// Something happened to a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkEvent {
    /// `peer` is asked for it; told again when another peer is.
    Started {
        file_hash: Arc<str>,
        chunk_index: u32,
        cid: Cid,
        peer: PeerId,
    },
    Progress {
        file_hash: Arc<str>,
        chunk_index: u32,
        bytes_received: u64,
        total_bytes: u64,
    },
    /// It is verified and stored; `path` is that of the request.
    Complete {
        file_hash: Arc<str>,
        chunk_index: u32,
        path: Arc<str>,
    },
    /// All attempts of one peer have failed. In the download of a file another peer is next.
    Failed {
        file_hash: Arc<str>,
        chunk_index: u32,
        error: String,
    },
}

impl ChunkEvent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "download_chunk_started",
            Self::Progress { .. } => "download_chunk_progress",
            Self::Complete { .. } => "download_chunk_complete",
            Self::Failed { .. } => "download_chunk_failed",
        }
    }

    pub fn chunk_index(&self) -> u32 {
        match self {
            Self::Started { chunk_index, .. }
            | Self::Progress { chunk_index, .. }
            | Self::Complete { chunk_index, .. }
            | Self::Failed { chunk_index, .. } => *chunk_index,
        }
    }
}

/// The events of a download, in order; ends with it. Dropping it lets the download go on untold.
#[derive(Debug)]
pub struct ChunkEvents(Arc<Queue>);

/// Where a download puts its events; dropping it ends them.
#[derive(Debug)]
pub(super) struct EventSender(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    events: VecDeque<ChunkEvent>,
    ended: bool,
    deaf: bool,
    listener: Option<Waker>,
    sender: Option<Waker>,
}

pub(super) fn channel() -> (EventSender, ChunkEvents) {
    let queue = Arc::<Queue>::default();
    (EventSender(queue.clone()), ChunkEvents(queue))
}

impl ChunkEvents {
    /// The next one; `None` when the download has ended.
    pub async fn next(&mut self) -> Option<ChunkEvent> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChunkEvent>> {
        let mut state = self.0.lock();
        if let Some(event) = state.events.pop_front() {
            state.sender.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(event));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.listener = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl futures::Stream for ChunkEvents {
    type Item = ChunkEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChunkEvent>> {
        self.poll(cx)
    }
}

impl EventSender {
    /// Progress takes the place of an earlier one of the same chunk, and is left out when there is
    /// no room. Other events are taken in any case: ask [`poll_room`](Self::poll_room) before.
    pub(super) fn send(&self, event: ChunkEvent) {
        let mut state = self.0.lock();
        if state.deaf {
            return;
        }
        if let ChunkEvent::Progress { chunk_index, .. } = &event {
            let full = state.events.len() >= MAX_EVENTS;
            let same = |old: &&mut ChunkEvent| old.chunk_index() == *chunk_index;
            if let Some(old @ ChunkEvent::Progress { .. }) =
                state.events.iter_mut().rev().find(same)
            {
                *old = event;
                return;
            }
            if full {
                return;
            }
        }
        state.events.push_back(event);
        state.listener.take().into_iter().for_each(Waker::wake);
    }

    /// Ready when an event can be sent without going over the bound.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.events.len() < MAX_EVENTS || state.deaf {
            return Poll::Ready(());
        }
        state.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn has_room(&self) -> bool {
        let state = self.0.lock();
        state.events.len() < MAX_EVENTS || state.deaf
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ChunkEvents {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.deaf = true;
        state.events = VecDeque::new();
        state.sender.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.listener.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn progress(chunk_index: u32, bytes_received: u64) -> ChunkEvent {
        ChunkEvent::Progress { file_hash: "f".into(), chunk_index, bytes_received, total_bytes: 9 }
    }

    fn complete(chunk_index: u32) -> ChunkEvent {
        ChunkEvent::Complete { file_hash: "f".into(), chunk_index, path: "p".into() }
    }

    fn drain(events: &mut ChunkEvents) -> Vec<ChunkEvent> {
        std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn a_slow_listener_loses_progress_and_nothing_else() {
        let (sender, mut events) = channel();
        for i in 0..1000 {
            sender.send(progress(7, i));
        }
        sender.send(complete(7));
        for i in 0..2000 {
            sender.send(progress(100 + i, 1));
        }
        assert!(!sender.has_room());
        sender.send(complete(8));
        let told = drain(&mut events);
        assert_eq!((told.len(), &told[0], &told[1]), (257, &progress(7, 999), &complete(7)));
        assert_eq!(told[256], complete(8));
        assert!(sender.has_room());
        // Progress after the end of an earlier attempt is news.
        sender.send(complete(1));
        sender.send(progress(1, 2));
        assert_eq!(drain(&mut events), [complete(1), progress(1, 2)]);
        drop(sender);
        assert_eq!(events.next().now_or_never(), Some(None));
    }

    #[test]
    fn nobody_need_listen() {
        let (sender, events) = channel();
        (0..MAX_EVENTS as u32).for_each(|i| sender.send(complete(i)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sender.poll_room(&mut cx).is_pending());
        drop(events);
        assert!(sender.poll_room(&mut cx).is_ready());
        (0..1000).for_each(|i| sender.send(complete(i)));
        assert!(sender.0.lock().events.is_empty());
    }

    #[test]
    fn the_names_are_those_of_the_specification() {
        assert_eq!(complete(1).name(), "download_chunk_complete");
        assert_eq!(progress(1, 2).name(), "download_chunk_progress");
        let failed =
            ChunkEvent::Failed { file_hash: "f".into(), chunk_index: 1, error: "e".into() };
        assert_eq!(failed.name(), "download_chunk_failed");
    }
}
