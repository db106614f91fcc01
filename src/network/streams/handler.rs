//! The part of the streams behaviour that belongs to one connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use libp2p::{
    PeerId, StreamProtocol,
    core::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

use super::{
    OpenReply, Stream,
    registry::{Permit, Registry, Shared},
};
use crate::network::{
    config::{MAX_OPENING_STREAMS, STREAM_TIMEOUT},
    error::NetworkError,
};

pub struct Handler {
    peer: PeerId,
    registry: Registry,
    shared: Shared,
    requested: VecDeque<Request>,
    /// Handed to the swarm, not answered yet.
    negotiating: usize,
    waker: Option<Waker>,
}

/// What the behaviour tells a handler.
#[derive(Debug)]
pub enum In {
    Open(Request),
    /// Something that connections share has changed (the accepted protocols, whether the peer is
    /// kept): be polled, so that the swarm sees it.
    Changed,
}

/// A stream that somebody waits for.
pub struct Request {
    pub(super) protocol: StreamProtocol,
    pub(super) reply: OpenReply,
    pub(super) using: Permit,
}

impl Handler {
    pub(super) fn new(peer: PeerId, registry: Registry, shared: Shared) -> Self {
        let requested = VecDeque::new();
        Self { peer, registry, shared, requested, negotiating: 0, waker: None }
    }

    fn answer(&self, request: Request, error: StreamUpgradeError<Infallible>) {
        let (peer, protocol) = (self.peer, request.protocol.to_string());
        let error = match error {
            StreamUpgradeError::NegotiationFailed => {
                NetworkError::UnsupportedProtocol { peer, protocol }
            }
            StreamUpgradeError::Timeout => {
                NetworkError::StreamTimeout { peer, protocol, after: STREAM_TIMEOUT }
            }
            StreamUpgradeError::Io(e) => {
                NetworkError::ConnectionLost { peer, protocol, reason: e.to_string() }
            }
            StreamUpgradeError::Apply(never) => match never {},
        };
        // Nobody listens any more if the caller gave up.
        let _ = request.reply.send(Err(error));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = In;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Request;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(self.registry.protocols()), ())
            .with_timeout(STREAM_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        self.shared.kept.load(Ordering::Relaxed)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Request, Infallible>> {
        while let Some(request) = self.requested.pop_front() {
            if request.reply.is_closed() {
                continue;
            }
            self.negotiating += 1;
            let protocols = Protocols(vec![request.protocol.clone()]);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(protocols, request).with_timeout(STREAM_TIMEOUT),
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: In) {
        match event {
            In::Open(request) if self.requested.len() + self.negotiating >= MAX_OPENING_STREAMS => {
                let error = NetworkError::TooMany {
                    what: "streams being opened with one peer",
                    limit: MAX_OPENING_STREAMS,
                };
                let _ = request.reply.send(Err(error));
            }
            In::Open(request) => self.requested.push_back(request),
            In::Changed => {}
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Protocols, Protocols, (), Request>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.registry.deliver(self.peer, &protocol, stream, &self.shared),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: request,
            }) => {
                self.negotiating = self.negotiating.saturating_sub(1);
                let _ = request.reply.send(Ok(Stream {
                    stream,
                    _permit: None,
                    using: Some(request.using),
                }));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: request, error }) => {
                self.negotiating = self.negotiating.saturating_sub(1);
                self.answer(request, error);
            }
            _ => {}
        }
    }
}

/// Agrees on one of these protocols and leaves the stream as it is.
#[derive(Debug)]
pub struct Protocols(Vec<StreamProtocol>);

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Protocols {
    type Output = (libp2p::Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<libp2p::Stream> for Protocols {
    type Output = (libp2p::Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
