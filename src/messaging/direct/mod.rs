//! Direct messages: one peer to another under a protocol of the app's, in order, each acknowledged
//! when the other side's app has taken it (wire: long-lived streams, JSON frames, an `ack` for each
//! `data`).
//!
//! A [`DirectMessages`] is a handle. One task ([`driver`]) owns a pure [`link`] per peer and protocol
//! and does what they decide; each stream has a task that reads and writes ([`frame`]). Handles and
//! receivers talk to it through a small shared state ([`hub`]), which never makes them wait.
//!
//! * **Sending.** [`DirectMessages::send`] resolves when the other side's app has taken the message,
//!   or with the reason why that did not happen in [`MAX_ATTEMPTS`] attempts. It waits in a queue for
//!   those before it; when the queue is full it fails with [`DirectError::Busy`] at once, and nothing
//!   is dropped silently. Dropping the future takes the message back if it was not sent yet. With the
//!   first message that is given up all behind it are, and the next ones have one attempt each, until
//!   anything is heard of the peer.
//! * **Receiving.** A message is acknowledged when [`Incoming::next`] hands it to the app, not when the
//!   app is done with it: else two apps that answer each other from within their handlers would
//!   wait for each other. Until then a reload loses nothing, its sender sends it again.
//!   [`Incoming`] gives the next message of a peer when the [`Message`] before it was dropped; those
//!   of other peers come meanwhile, so a handler that never ends holds up one peer under one protocol.
//! * **Once.** A message that comes again is acknowledged again and not delivered again, as long as
//!   the page lives.
//!
//! * **Streams.** Messages go over a stream that the sender opened, since every peer reads those, and
//!   acks back over the stream that brought the message, or another if that is gone. Both sides may
//!   open one at the same time, and either is heard on all of them ([`link`] says why that keeps the
//!   order).
//!
//! Messages carry JSON or bytes ([`Value`]; [`frame`] says how bytes travel).

mod driver;
mod error;
pub mod frame;
mod hub;
mod incoming;
mod link;
mod value;

use std::{fmt, sync::Arc};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::oneshot;

pub(super) use self::value::check_json;
pub use self::{
    error::DirectError,
    incoming::{Incoming, Message},
    value::Value,
};

use self::hub::{Hub, NewSend};
use crate::{
    network::{NetworkError, PeerStreams},
    platform::{task, time::Duration},
};

/// The largest value: bytes, or the text of JSON.
pub const MAX_VALUE: usize = 1 << 20;
/// How deep JSON may be nested: what serde_json still reads.
pub const MAX_DEPTH: usize = 127;
/// Bytes of a message's id.
pub const MAX_ID: usize = 128;
/// Bytes of a frame: the largest value as bytes (base64 twice), and what is around it, the id
/// escaped.
pub const MAX_FRAME: usize =
    frame::encoded_len(frame::encoded_len(MAX_VALUE) + 2) + 6 * MAX_ID + 256;
/// Bytes of a protocol's name, the slash before it included.
pub const MAX_PROTOCOL_NAME: usize = 128;
/// Protocols started at once.
pub const MAX_STARTED: usize = 32;
/// Pairs of peer and protocol that are remembered. One that is idle makes room for another.
pub const MAX_LINKS: usize = 1024;
/// Messages that wait to be sent to one peer under one protocol, those under way included,
pub const MAX_QUEUED: usize = 1024;
/// and bytes of their frames.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Bytes of values that wait to be sent to anybody.
pub const MAX_SENDING_BYTES: usize = 64 << 20;
/// Messages that wait to be sent to anybody.
pub const MAX_SENDING: usize = 16 << 10;
/// Messages sent ahead of their acks,
pub const WINDOW: usize = 16;
/// and bytes of their frames, if there is more than one.
pub const WINDOW_BYTES: usize = 3 << 20;
/// Messages of one peer under one protocol that the app has not taken yet. Above [`WINDOW`], so that
/// no peer of ours gets there.
pub const MAX_UNTAKEN: usize = 2 * WINDOW;
/// Bytes of their values; in [`WINDOW_BYTES`] of frames there is less.
pub const MAX_UNTAKEN_BYTES: usize = 4 << 20;
/// Bytes of the untaken messages of all peers.
pub const MAX_TOTAL_UNTAKEN_BYTES: usize = 64 << 20;
/// Ids remembered for each peer and protocol.
pub const REMEMBERED_IDS: usize = 256;
/// Streams that one peer may have open with us for one protocol; the oldest makes room.
pub const MAX_INBOUND_STREAMS: usize = 4;
/// Streams of all peers and protocols.
pub const MAX_STREAMS: usize = 512;

/// How often a message is sent.
pub const MAX_ATTEMPTS: u32 = 3;
/// How long to wait after the first attempt, and after the second.
pub const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];
/// When something is heard of a peer, the wait ends, but not sooner than this.
pub const NUDGE_SPACING: Duration = Duration::from_millis(250);
/// How long an ack may take from when the message was written or the one before was acknowledged.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream of ours on which nothing passes for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of another's. Longer, so that it is he who closes it, when nothing is on its way.
pub const INBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Sends and receives direct messages; clones share it. It ends with the network, or when the last
/// clone is gone.
#[derive(Clone)]
pub struct DirectMessages(Arc<Handle>);

struct Handle {
    hub: Arc<Hub>,
    streams: Arc<dyn PeerStreams>,
}

impl DirectMessages {
    pub fn new(streams: Arc<dyn PeerStreams>) -> Self {
        // Random, and all that is needed of randomness here.
        let random = PeerId::random().to_bytes();
        let epoch = random.iter().rev().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
        let hub = Arc::<Hub>::default();
        drop(task::spawn(driver::run(hub.clone(), streams.clone(), epoch)));
        Self(Arc::new(Handle { hub, streams }))
    }

    /// Starts to receive under `protocol`, until the answer is dropped or [`stop`](Self::stop).
    pub async fn start(&self, protocol: &str) -> Result<Incoming, DirectError> {
        let name = protocol_name(protocol)?;
        let accepted = self.0.streams.accept(name.clone()).await;
        let accepted = accepted.map_err(|error| match error {
            NetworkError::AlreadyAccepted { protocol } => DirectError::AlreadyStarted { protocol },
            NetworkError::TooMany { limit, .. } => {
                DirectError::Busy { what: "protocols accepted", limit }
            }
            _ => DirectError::Closed,
        })?;
        self.0.hub.start(name, accepted)
    }

    /// Receives no more under `protocol`; who waits for the next message is told that there is
    /// none. Stopping what is not started is no error.
    pub fn stop(&self, protocol: &str) {
        if let Ok(name) = protocol_name(protocol) {
            self.0.hub.stop(name.as_ref(), None);
        }
    }

    /// Sends a message, and resolves when the app there has taken it. Its place in the queue is that
    /// of this call, whenever the future is polled.
    pub fn send(
        &self,
        peer: PeerId,
        protocol: &str,
        value: Value,
    ) -> impl Future<Output = Result<(), DirectError>> + use<> {
        let queued = self.queue(peer, protocol, value);
        async move {
            let (mut cancel, answer) = queued?;
            let outcome = answer.await.unwrap_or(Err(DirectError::Closed));
            cancel.seq = None;
            outcome
        }
    }

    fn queue(&self, peer: PeerId, protocol: &str, value: Value) -> Result<Queued, DirectError> {
        let protocol = protocol_name(protocol)?;
        value.check()?;
        let (reply, answer) = oneshot::channel();
        let hub = self.0.hub.clone();
        let seq = hub.send(NewSend { seq: 0, peer, protocol, value, reply })?;
        Ok((CancelOnDrop { hub, seq: Some(seq) }, answer))
    }

    /// Ends everything: calls under way fail with [`DirectError::Closed`].
    pub fn close(&self) {
        self.0.hub.close();
    }
}

/// A message in the queue, and what becomes of it.
type Queued = (CancelOnDrop, oneshot::Receiver<Result<(), DirectError>>);

struct CancelOnDrop {
    hub: Arc<Hub>,
    seq: Option<u64>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(seq) = self.seq {
            self.hub.cancel(seq);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.hub.close();
    }
}

/// The name as it is negotiated: with a slash at its front, which libp2p requires and apps forget.
fn protocol_name(name: &str) -> Result<StreamProtocol, DirectError> {
    let bad = |reason| DirectError::BadProtocol { name: name.chars().take(64).collect(), reason };
    let slashed = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
    if slashed.len() < 2 {
        return Err(bad("it is empty"));
    }
    if slashed.len() > MAX_PROTOCOL_NAME {
        return Err(bad("it is too long"));
    }
    if slashed.chars().any(char::is_control) {
        return Err(bad("it holds a control character"));
    }
    StreamProtocol::try_from_owned(slashed).map_err(|_| bad("libp2p refuses it"))
}

impl fmt::Debug for DirectMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectMessages").finish_non_exhaustive()
    }
}
