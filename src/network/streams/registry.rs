//! Which protocols are accepted and how many streams each peer has open: what the handlers of all
//! connections share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::mpsc;

use super::{IncomingStreams, Stream};
use crate::network::{
    config::{INCOMING_QUEUE, MAX_ACCEPTED_PROTOCOLS, MAX_INBOUND_STREAMS_PER_PEER},
    error::NetworkError,
};

#[derive(Clone, Debug, Default)]
pub(super) struct Registry(Arc<Mutex<HashMap<StreamProtocol, Accepted>>>);

#[derive(Debug)]
struct Accepted {
    queue: mpsc::Sender<(PeerId, Stream)>,
    refused: Arc<AtomicU64>,
}

/// What all connections with one peer share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    /// Streams that the peer opened.
    pub(super) allowance: Allowance,
    /// Streams for whose sake the connections stay.
    pub(super) using: Allowance,
    /// The connections stay although nothing uses them.
    pub(super) kept: Arc<AtomicBool>,
}

/// How many streams of a kind there are with a peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

/// One stream of an [`Allowance`].
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Registry {
    pub(super) fn accept(&self, protocol: StreamProtocol) -> Result<IncomingStreams, NetworkError> {
        let mut accepted = self.lock();
        accepted.retain(|_, entry| !entry.queue.is_closed());
        if accepted.contains_key(&protocol) {
            return Err(NetworkError::AlreadyAccepted { protocol: protocol.to_string() });
        }
        if accepted.len() >= MAX_ACCEPTED_PROTOCOLS {
            let limit = MAX_ACCEPTED_PROTOCOLS;
            return Err(NetworkError::TooMany { what: "accepted protocols", limit });
        }
        let (sender, queue) = mpsc::channel(INCOMING_QUEUE);
        let refused = Arc::new(AtomicU64::new(0));
        accepted.insert(protocol, Accepted { queue: sender, refused: refused.clone() });
        Ok(IncomingStreams { queue, refused })
    }

    pub(super) fn protocols(&self) -> Vec<StreamProtocol> {
        let accepted = self.lock();
        let open = accepted.iter().filter(|(_, entry)| !entry.queue.is_closed());
        open.map(|(protocol, _)| protocol.clone()).collect()
    }

    /// Hands the stream to whoever accepts the protocol, or drops it, which resets it.
    pub(super) fn deliver(
        &self,
        peer: PeerId,
        protocol: &StreamProtocol,
        stream: libp2p::Stream,
        shared: &Shared,
    ) {
        let accepted = self.lock();
        let Some(entry) = accepted.get(protocol) else { return };
        let Some(permit) = shared.allowance.take() else {
            entry.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, %protocol, "refused a stream: the peer has too many open");
            return;
        };
        let stream = Stream { stream, _permit: Some(permit), using: Some(shared.using.count()) };
        if entry.queue.try_send((peer, stream)).is_err() {
            entry.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, %protocol, "refused a stream: too many wait");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamProtocol, Accepted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    /// One more, which is not bounded here.
    pub(super) fn count(&self) -> Permit {
        self.0.fetch_add(1, Ordering::Relaxed);
        Permit(self.0.clone())
    }

    pub(super) fn in_use(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> Option<Permit> {
        let below = |open| (open < MAX_INBOUND_STREAMS_PER_PEER).then_some(open + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Permit(self.0.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_accepted_once_at_a_time() {
        let registry = Registry::default();
        let protocol = StreamProtocol::new("/a");
        let incoming = registry.accept(protocol.clone()).expect("accepts");
        let again = registry.accept(protocol.clone()).map(drop);
        assert_eq!(again, Err(NetworkError::AlreadyAccepted { protocol: "/a".into() }));
        assert!(registry.protocols() == [protocol.as_ref()]);
        drop(incoming);
        assert!(registry.protocols().is_empty());
        assert!(registry.accept(protocol).is_ok());
    }

    #[test]
    fn the_number_of_protocols_is_bounded() {
        let registry = Registry::default();
        let name = |i| StreamProtocol::try_from_owned(format!("/{i}")).expect("a name");
        let _held: Vec<_> = (0..MAX_ACCEPTED_PROTOCOLS).map(|i| registry.accept(name(i))).collect();
        let result = registry.accept(name(MAX_ACCEPTED_PROTOCOLS)).map(drop);
        assert!(matches!(result, Err(NetworkError::TooMany { .. })));
    }

    #[test]
    fn a_peers_streams_are_counted_until_dropped() {
        let allowance = Allowance::default();
        let mut held: Vec<_> =
            (0..MAX_INBOUND_STREAMS_PER_PEER).map(|_| allowance.take()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(allowance.take().is_none());
        held.pop();
        assert!(allowance.take().is_some());
        drop(held);
        assert!(!allowance.in_use());
        let own = allowance.count();
        assert!(allowance.in_use());
        drop(own);
        assert!(!allowance.in_use());
    }
}
