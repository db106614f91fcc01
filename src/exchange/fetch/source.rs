//! What the chain asks for content: each source is replaceable.

use std::task::{Context, Poll};

use libp2p::PeerId;

use crate::{
    content::block::{Block, Cid},
    error::Error,
    platform::{MaybeSend, MaybeSync, time::Duration},
};

/// The places of a source in the chain, in the default order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// What is stored here.
    Local,
    /// The peers that are connected, and the fallback peer of the call.
    Peers,
    /// Providers found through the DHT and delegated routing.
    Network,
    /// The trustless gateways of the configured relays.
    Relay,
    /// Public gateways.
    Gateway,
}

impl SourceKind {
    /// All, in the default order.
    pub const ALL: [Self; 5] =
        [Self::Local, Self::Peers, Self::Network, Self::Relay, Self::Gateway];

    /// As apps and requests name it.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "local" => Self::Local,
            "peers" => Self::Peers,
            "network" => Self::Network,
            "relay" => Self::Relay,
            "gateway" => Self::Gateway,
            _ => return None,
        })
    }
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The root of the file or directory; the wants are blocks below it.
    pub root: Cid,
    /// A peer that should have it, asked even if it is not connected.
    pub fallback: Option<PeerId>,
    /// Which kinds of sources may be asked, in this order; empty: the configured ones.
    pub preferred_sources: Vec<SourceKind>,
    /// Hops that others may go on our behalf.
    pub ttl: Option<u32>,
    /// Who asks, as a DID, for protocols that carry it.
    pub requester: Option<String>,
    /// All sources together.
    pub timeout: Option<Duration>,
    /// Without a sign of life for this long a source is left; `None`: as configured.
    pub source_timeout: Option<Duration>,
}

impl FetchRequest {
    /// For `root`, with nothing said about how.
    pub fn new(root: Cid) -> Self {
        Self {
            root,
            fallback: None,
            preferred_sources: Vec::new(),
            ttl: None,
            requester: None,
            timeout: None,
            source_timeout: None,
        }
    }
}

/// Somewhere content may come from.
pub trait Source: MaybeSend + MaybeSync {
    fn kind(&self) -> SourceKind;
    /// For messages: "the connected peers", "gateway https://…".
    fn name(&self) -> String;
    /// Starts to serve one fetch. Dropping the session ends all that it does.
    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession>;
}

/// A source at work for one fetch.
pub trait SourceSession: MaybeSend {
    /// Asks for blocks. Never waits; the chain bounds how many are asked for at a time.
    fn want(&mut self, cids: &[Cid]);
    /// They came from elsewhere or are of no interest any more.
    fn cancel(&mut self, cids: &[Cid]);
    /// What happens next; `None`: the source has ended and answers nothing more.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>>;
}

/// What a source says.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// A verified block, asked for or (from a CAR) about to be.
    Block { block: Block, from: Option<PeerId> },
    /// These cannot be had here, for this reason; an empty one: there was nobody to ask, which is not
    /// worth a word to the caller. A source may bring one later all the same.
    Missing { cids: Vec<Cid>, reason: String },
    /// The source as a whole is of no use to this fetch.
    Failed { reason: String },
    /// Bytes are on their way, of blocks that cannot be told yet: how many, and of how many.
    Progress { done: u64, total: Option<u64> },
    /// A peer sent bytes that are not what was asked for. They were thrown away; the source goes on.
    Wrong { peer: PeerId, cid: Cid, reason: String },
    /// Something failed here that asking others does not cure, as a full disk.
    Broken(Error),
}
