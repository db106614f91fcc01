//! What is known of one connected peer, and what there is to say to it.

use std::collections::{HashSet, VecDeque};

use tokio::sync::mpsc;

use super::writer::{Outgoing, WRITE_QUEUE};
use crate::{
    exchange::bitswap::{
        PeerTraffic,
        message::{Message, PROTOCOL, WantEntry},
        server::Reply,
    },
    network::PeerInfo,
    platform::time::Duration,
};

/// Changes of our wantlist that wait to be sent to one peer. A peer that lets more pile up takes
/// nothing in.
const MAX_UNSENT_WANTS: usize = 16 << 10;
/// Of these, those of one message.
const MAX_WANTS_PER_MESSAGE: usize = 4096;
/// After a failure a peer is left alone for this long, then twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Contact {
    /// The client was told that it is connected.
    pub told: bool,
    /// The client was told that it does not come.
    pub written_off: bool,
    /// The client was told that it has to introduce itself.
    pub met: bool,
    /// It took a stream of ours, or opened one.
    pub proven: bool,
    /// Only a circuit leads to it that may carry little.
    pub limited: bool,
    /// Whether it says that it speaks Bitswap; `None` until it says anything.
    speaks: Option<bool>,
    failures: u32,
    pub retry_at: Option<Duration>,
    wants: Vec<WantEntry>,
    full: bool,
    replies: VecDeque<Reply>,
    pub writer: Option<WriterHandle>,
    pub traffic: PeerTraffic,
}

pub(super) struct WriterHandle {
    pub number: u64,
    queue: mpsc::Sender<Outgoing>,
    in_flight: usize,
}

impl WriterHandle {
    pub(super) fn new(number: u64, queue: mpsc::Sender<Outgoing>) -> Self {
        Self { number, queue, in_flight: 0 }
    }

    pub(super) fn written(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

impl Contact {
    pub(super) fn update(&mut self, info: &PeerInfo) {
        self.limited = info.limited;
        let speaks = info.agent.is_some().then(|| info.protocols.iter().any(|p| p == PROTOCOL));
        if self.speaks != speaks {
            // It has changed its mind, or was not asked before.
            self.speaks = speaks;
            self.proven &= speaks != Some(false);
        }
    }

    /// Whether it will not be asked on this connection, as things stand.
    pub(super) fn refuses(&self) -> bool {
        self.limited || self.speaks == Some(false)
    }

    /// Whether it has not said yet what it speaks.
    pub(super) fn is_stranger(&self) -> bool {
        self.speaks.is_none() && !self.proven && !self.limited
    }

    /// Whether it may be asked for blocks.
    pub(super) fn may_be_asked(&self, now: Duration) -> bool {
        let speaks = self.speaks.unwrap_or(self.proven);
        speaks && !self.limited && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Returns whether it was too much.
    pub(super) fn add_wants(&mut self, mut wants: Vec<WantEntry>, full: bool) -> bool {
        if full {
            self.full = true;
            self.wants.clear();
        }
        self.wants.append(&mut wants);
        self.wants.len() > MAX_UNSENT_WANTS && {
            latest_only(&mut self.wants);
            self.wants.len() > MAX_UNSENT_WANTS
        }
    }

    pub(super) fn add_reply(&mut self, reply: Reply) {
        self.replies.push_back(reply);
    }

    pub(super) fn has_something_to_say(&self) -> bool {
        self.full || !self.wants.is_empty() || !self.replies.is_empty()
    }

    /// Hands the writer what it has room for.
    pub(super) fn write(&mut self) {
        while self.has_something_to_say()
            && self.writer.as_ref().is_some_and(|writer| writer.in_flight < WRITE_QUEUE)
        {
            let (mut message, served) = match self.replies.pop_front() {
                Some(reply) => (reply.message, reply.bytes),
                None => (Message::default(), 0),
            };
            message.full = std::mem::take(&mut self.full);
            message.wants = self.next_wants();
            let Some(writer) = &mut self.writer else { return };
            writer.in_flight += 1;
            // A writer that is gone has said why, or is about to.
            let _ = writer.queue.try_send(Outgoing { pieces: message.encode(), served });
        }
    }

    pub(super) fn sent(&mut self, message: &Outgoing) {
        self.failures = 0;
        self.traffic.sent += message.pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    }

    /// Nothing can be sent at the moment. What there was to say is forgotten.
    pub(super) fn failed(&mut self, now: Duration, unsupported: bool) {
        if unsupported {
            self.proven = false;
            self.speaks = Some(false);
        }
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(6)).min(LAST_RETRY);
        self.failures += 1;
        self.retry_at = Some(now + wait);
        (self.wants, self.full) = (Vec::new(), false);
        self.replies.clear();
        self.writer = None;
    }

    fn next_wants(&mut self) -> Vec<WantEntry> {
        latest_only(&mut self.wants);
        let rest = self.wants.split_off(self.wants.len().min(MAX_WANTS_PER_MESSAGE));
        std::mem::replace(&mut self.wants, rest)
    }
}

/// Of several entries for one CID the last counts.
fn latest_only(wants: &mut Vec<WantEntry>) {
    if wants.len() < 2 {
        return;
    }
    let mut seen = HashSet::with_capacity(wants.len());
    wants.reverse();
    wants.retain(|want| seen.insert(want.cid));
    wants.reverse();
}
