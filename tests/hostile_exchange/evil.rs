//! A peer that speaks Bitswap as a test wants it to.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use cid::Version;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tabpeer::{
    content::block::{Cid, RAW, SHA2_256},
    exchange::bitswap::message::{
        Message, MessageReader, PROTOCOL, Presence, RawBlock, WantEntry, WantKind,
    },
    network::{Network, Stream},
};

use crate::{node::Node, support};

/// Only a network: what it says is up to the test.
pub struct Evil {
    pub network: Network,
}

/// What it writes after what it has read. `Err`: it closes the stream after that.
pub type Answer = Result<Vec<Bytes>, Vec<Bytes>>;

impl Evil {
    pub async fn new() -> Self {
        Self { network: support::network(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await }
    }

    pub fn id(&self) -> PeerId {
        self.network.peer_id()
    }

    pub fn address(&self) -> Multiaddr {
        self.network.status().current().listen_addresses.first().cloned().expect("it listens")
    }

    /// Answers each message with `answer`, on one stream of its own to whoever sent it.
    pub async fn answer(&self, mut answer: impl FnMut(Message) -> Answer + Send + 'static) {
        let network = self.network.clone();
        let mut incoming = network.accept(StreamProtocol::new(PROTOCOL)).await.expect("accepts");
        tokio::spawn(async move {
            let mut out: Option<Stream> = None;
            while let Some((peer, mut stream)) = incoming.next().await {
                let mut reader = MessageReader::new();
                let mut buffer = vec![0; 64 << 10];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    reader.push(Bytes::copy_from_slice(&buffer[..len]));
                    while let Ok(Some(message)) = reader.next() {
                        let (pieces, close) = match answer(message) {
                            Ok(pieces) => (pieces, false),
                            Err(pieces) => (pieces, true),
                        };
                        for piece in pieces {
                            if out.is_none() {
                                out = open(&network, peer).await;
                            }
                            if let Some(stream) = &mut out
                                && stream.write_all(&piece).await.is_err()
                            {
                                out = None;
                            }
                        }
                        if let Some(stream) = &mut out {
                            let _ = stream.flush().await;
                        }
                        if close && let Some(mut stream) = out.take() {
                            let _ = stream.close().await;
                        }
                    }
                }
            }
        });
    }

    /// A stream to `victim`, dialling it first if need be.
    pub async fn stream(&self, victim: &Node) -> Stream {
        if !self.network.status().current().online() {
            self.dial(victim).await;
        }
        open(&self.network, victim.network.peer_id()).await.expect("a stream")
    }

    pub async fn dial(&self, victim: &Node) {
        let address = victim.address.clone().expect("it listens");
        self.network.dial(address).await.expect("connects");
    }

    /// Says `bytes` again and again, until it cannot.
    pub fn repeat(self: &Arc<Self>, mut stream: Stream, bytes: Bytes, times: usize) {
        let evil = self.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
            drop((evil, stream));
        });
    }
}

/// Says one piece after the other at this pace, until it cannot.
pub async fn trickle(
    mut stream: Stream,
    pieces: impl IntoIterator<Item = Bytes>,
    pace: Duration,
) -> Stream {
    let mut pace = tokio::time::interval(pace);
    for piece in pieces {
        pace.tick().await;
        if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    stream
}

async fn open(network: &Network, peer: PeerId) -> Option<Stream> {
    network.open_stream(peer, StreamProtocol::new(PROTOCOL)).await.ok()
}

pub fn bytes_of(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode().iter().for_each(|piece| out.extend_from_slice(piece));
    out.freeze()
}

pub fn raw_block(data: Bytes) -> RawBlock {
    RawBlock { version: Version::V1, codec: RAW, hash_code: SHA2_256, data }
}

pub fn blocks(data: impl IntoIterator<Item = Bytes>) -> Bytes {
    let blocks = data.into_iter().map(raw_block).collect();
    bytes_of(&Message { blocks, ..Message::default() })
}

pub fn presences(cids: impl IntoIterator<Item = Cid>, presence: Presence) -> Bytes {
    let presences = cids.into_iter().map(|cid| (cid, presence)).collect();
    bytes_of(&Message { presences, ..Message::default() })
}

pub fn want(cid: Cid, kind: WantKind) -> WantEntry {
    WantEntry { cid, priority: 1, kind, cancel: false, send_dont_have: true }
}

/// What the message asks for.
pub fn asked(message: &Message) -> Vec<Cid> {
    message.wants.iter().filter(|want| !want.cancel).map(|want| want.cid).collect()
}
