//! Direct messages of this peer: to and from others, under protocols of the app's
//! ([`crate::messaging::direct`]).

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use tokio::sync::Mutex;

use super::{Peer, convert};
use crate::{
    error::{Error, Result},
    messaging::direct::{DirectError, DirectMessages, Incoming, Value},
    network::Network,
    platform::time,
};

/// Options of [`Peer::send`].
#[derive(Debug, Default, Clone)]
pub struct SendOptions {
    /// For the whole call; without it the attempts decide ([`crate::messaging::direct`]).
    pub timeout: Option<Duration>,
}

pub(super) struct Messages {
    direct: DirectMessages,
    /// A protocol is started and stopped in the order of the calls.
    order: Mutex<()>,
}

impl Messages {
    pub(super) fn new(network: &Network) -> Self {
        let direct = DirectMessages::new(Arc::new(network.clone()));
        Self { direct, order: Mutex::default() }
    }

    pub(super) fn close(&self) {
        self.direct.close();
    }
}

impl Peer {
    /// Receives what others send under `protocol`, until the answer is dropped or
    /// [`stop`](Self::stop).
    pub async fn start(&self, protocol: &str) -> Result<Incoming> {
        let messages = &self.inner.messages;
        let _turn = messages.order.lock().await;
        messages.direct.start(protocol).await.map_err(message_error)
    }

    /// Receives no more under `protocol`. Stopping what is not started is no error.
    pub async fn stop(&self, protocol: &str) {
        let messages = &self.inner.messages;
        let _turn = messages.order.lock().await;
        messages.direct.stop(protocol);
    }

    /// Sends a message, and resolves when the app there has taken it. Its place in the queue is that
    /// of this call. When the future is dropped, or late, the message is taken back if it was not
    /// sent yet.
    pub fn send(
        &self,
        peer: PeerId,
        protocol: &str,
        value: Value,
        options: SendOptions,
    ) -> impl Future<Output = Result<()>> + use<> {
        let another = (peer != self.inner.peer_id)
            .then(|| self.inner.messages.direct.send(peer, protocol, value));
        async move {
            let Some(sending) = another else {
                let reason = "it is this peer itself".to_owned();
                return Err(convert::unreachable(peer, reason));
            };
            let sent = match options.timeout {
                None => sending.await,
                Some(after) => time::timeout(after, sending)
                    .await
                    .map_err(|_| Error::Timeout { what: format!("a message for {peer}"), after })?,
            };
            sent.map_err(message_error)
        }
    }
}

fn message_error(error: DirectError) -> Error {
    let reason = error.to_string();
    match error {
        DirectError::AlreadyStarted { protocol } => Error::AlreadyStarted { protocol },
        DirectError::BadProtocol { .. } => Error::BadArgument { what: "protocol", reason },
        DirectError::Busy { what, .. } => Error::Busy { what },
        DirectError::Closed => Error::Closed,
        DirectError::NotJson { reason } => Error::BadArgument { what: "data", reason },
        DirectError::TooLarge { len, max } => {
            let reason = format!("{len} bytes, at most {max}");
            Error::TooLarge { what: "the message".into(), reason }
        }
        DirectError::Unacknowledged { peer, protocol, attempts } => {
            Error::Unacknowledged { peer, protocol, attempts }
        }
        DirectError::Unreachable { peer, protocol, attempts, reason } => {
            convert::unreachable(peer, format!("{attempts} attempts for {protocol}: {reason}"))
        }
        DirectError::Unsupported { peer, protocol } => Error::Unsupported { peer, protocol },
    }
}
