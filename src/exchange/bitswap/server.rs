//! The answering side, pure: who gets which block next (the Bitswap specification, "Bitswap 1.2.0:
//! Interaction Pattern").
//!
//! Wants come in with [`Server::received`]. [`Server::next_lookup`] says what to read from the store,
//! for the peer that has been given least so far; [`Server::found`] makes the messages of what was
//! read. What is not here waits: [`Server::stored`] takes it up when it comes.
//!
//! Fair by bytes: each peer has a count of what it was given, and the lowest goes first. A peer that
//! comes back from having wanted nothing starts at the count of the one served last, so that it can
//! neither save up nor is it behind.
//!
//! What was read and not sent is bounded, for each peer and for all together ([`Room`]): a lookup
//! waits until there is room for it, and brings back no more than that.

mod ledger;
mod room;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use cid::Cid;
use libp2p::PeerId;

use self::ledger::{Hash, Ledger, Place, Want};
use self::room::Room;
use super::message::{Message, Presence, RawBlock, WantEntry, WantKind, presence_len};
use crate::boxmap::{BoxMap, BoxSet};
use crate::content::block::{Block, MAX_BLOCK};

pub use room::{MAX_HELD, MAX_READ};

/// Wants kept of one peer (what Kubo keeps); beyond, the least useful is dropped.
pub const MAX_WANTS_PER_PEER: usize = 1024;
/// Wants kept of all peers together.
pub const MAX_WANTS: usize = 64 << 10;
/// Wants that each peer may have even when [`MAX_WANTS`] is reached.
pub const MIN_WANTS_PER_PEER: usize = 64;
/// Bytes of blocks made ready for one peer and not sent yet: one message on its way, one behind it, one being
/// read from the store. Less when [`MAX_HELD`] comes near.
pub const MAX_OUTSTANDING: usize = 4 << 20;
/// Bytes of blocks in one message, unless one block alone has more.
pub const MESSAGE_TARGET: usize = 1 << 20;
/// Wants looked up together.
pub const MAX_LOOKUP: usize = 32;
/// A block up to this is sent to a peer that only asked whether it is here (Kubo's limit).
pub const SMALL_BLOCK: usize = 1024;

/// How large a block of a peer that has got none yet is taken to be.
const FIRST_EXPECTED: usize = 512 << 10;
/// The smallest that blocks are taken to be.
const LEAST_EXPECTED: usize = 4 << 10;
/// What a want costs its peer whether or not there is a block, in bytes.
const LOOKUP_COST: u64 = 256;

/// The wantlists of the peers and what they were given.
#[derive(Debug, Default)]
pub struct Server {
    ledgers: BoxMap<PeerId, Ledger>,
    /// Whose wants are being looked up or wait for the block.
    watched: HashMap<Hash, BoxSet<PeerId>>,
    total: usize,
    room: Room,
    /// Numbers the wants in the order of their coming.
    numbers: u64,
    /// What the peer served last had been given.
    clock: u64,
}

/// What to read for a peer. Goes back with [`Server::found`].
#[derive(Debug)]
pub struct Lookup {
    pub peer: PeerId,
    pub items: Vec<LookupItem>,
    /// Bytes of blocks to bring back, the first whatever its size. What goes beyond is [`Found::Unread`].
    pub keep: usize,
    /// Bytes of blocks that may be in memory while they are read; at least one block's.
    pub read: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct LookupItem {
    pub cid: Cid,
    /// For [`WantKind::Have`], [`Found::Here`] will do, but a block up to [`SMALL_BLOCK`] is better.
    pub kind: WantKind,
    number: u64,
}

/// What was found for one item.
#[derive(Debug, Clone)]
pub enum Found {
    Block(Block),
    Here,
    Absent,
    /// It was not looked for, as there was no room for it: it is looked up again.
    Unread,
}

/// A message for a peer.
#[derive(Debug)]
pub struct Reply {
    pub peer: PeerId,
    pub message: Message,
    /// What [`Server::sent`] is told when it is on its way.
    pub bytes: usize,
}

impl Server {
    pub fn new() -> Self {
        Self::default()
    }

    /// The wantlist of a message; `full` replaces what the peer wanted before.
    pub fn received(&mut self, peer: PeerId, wants: Vec<WantEntry>, full: bool) {
        if full && let Some(ledger) = self.ledgers.get_mut(&peer) {
            let hashes = ledger.hashes();
            for hash in hashes {
                self.remove(peer, &hash);
            }
        }
        for want in wants {
            if want.cancel {
                self.remove(peer, want.cid.hash());
            } else {
                self.add(peer, want);
            }
        }
    }

    pub fn disconnected(&mut self, peer: PeerId) {
        let Some(mut ledger) = self.ledgers.remove(&peer) else { return };
        self.total -= ledger.len();
        self.room.release(&mut ledger, usize::MAX);
        for hash in ledger.hashes() {
            self.unwatch(peer, &hash);
        }
    }

    /// The peers that this knows anything of.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.ledgers.keys().copied()
    }

    /// These blocks are in the store now: wants that wait for them are looked up again.
    pub fn stored<'c>(&mut self, cids: impl IntoIterator<Item = &'c Cid>) {
        for cid in cids {
            let hash = cid.hash();
            let Some(mut peers) = self.watched.remove(hash) else { continue };
            peers.retain(|peer| {
                let Some(ledger) = self.ledgers.get_mut(peer) else { return false };
                ledger.wake(self.clock);
                ledger.stored(hash)
            });
            if !peers.is_empty() {
                self.watched.insert(*hash, peers);
            }
        }
    }

    /// Any block may have been stored: every want that waits is looked up again.
    pub fn stored_unknown(&mut self) {
        let waiting: Vec<Cid> = self.ledgers.values().flat_map(Ledger::unanswered).collect();
        self.stored(&waiting);
    }

    /// What to look up next; `None`: nothing is wanted, or whoever wants has enough on its way, or
    /// all together have.
    pub fn next_lookup(&mut self) -> Option<Lookup> {
        if !self.room.has_some() {
            return None;
        }
        let share = self.room.share();
        let ready = self.ledgers.iter_mut().filter(|(_, ledger)| ledger.is_ready(share));
        let (peer, ledger) = ready.min_by_key(|(_, ledger)| ledger.given)?;
        self.clock = ledger.given;
        // While nothing is on its way to the peer, its link idles: what is read first is little.
        let keep = match ledger.outstanding {
            0 => share.min(MAX_BLOCK),
            outstanding => share.saturating_sub(outstanding),
        };
        let items = ledger.start_lookup(keep);
        let read = self.room.start_reading(items.len());
        for item in &items {
            self.watched.entry(*item.cid.hash()).or_default().insert(*peer);
        }
        Some(Lookup { peer: *peer, items, keep, read })
    }

    /// What came of a lookup, item by item; what is missing at the end was not found.
    pub fn found(&mut self, lookup: Lookup, found: Vec<Found>) -> Vec<Reply> {
        let peer = lookup.peer;
        self.room.end_reading(lookup.read);
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return Vec::new() };
        let mut answer = Answer::new(peer, ledger.end_lookup());
        let mut largest = 0;
        let found = found.into_iter().chain(std::iter::repeat(Found::Absent));
        for (item, found) in lookup.items.iter().zip(found) {
            let hash = item.cid.hash();
            ledger.given += LOOKUP_COST;
            // Cancelled, or asked for anew and looked up once more.
            let Some(want) = ledger.looked_up(hash, item.number) else { continue };
            let small = |block: &Block| block.data().len() <= SMALL_BLOCK;
            match (found, want.kind) {
                (Found::Block(block), kind) if kind == WantKind::Block || small(&block) => {
                    largest = largest.max(block.data().len());
                    answer.block(&block);
                }
                (Found::Block(_) | Found::Here, WantKind::Have) => {
                    answer.presence(item.cid, Presence::Have);
                }
                (Found::Unread, _) => {
                    ledger.requeue(hash);
                    continue;
                }
                (_, _) => {
                    if want.send_dont_have {
                        answer.presence(item.cid, Presence::DontHave);
                    }
                    ledger.wait(hash);
                    continue;
                }
            }
            self.total -= usize::from(ledger.remove(hash).is_some());
            unwatch(&mut self.watched, peer, hash);
        }
        ledger.expect(largest);
        let pending = ledger.expected().saturating_mul(ledger.queued());
        let replies = answer.finish(i32::try_from(pending).unwrap_or(i32::MAX));
        let bytes: usize = replies.iter().map(|reply| reply.bytes).sum();
        self.room.hold(ledger, bytes);
        ledger.given += bytes as u64;
        self.forget_if_idle(peer);
        replies
    }

    /// So much of the replies to `peer` was sent, or will never be.
    pub fn sent(&mut self, peer: PeerId, bytes: usize) {
        if let Some(ledger) = self.ledgers.get_mut(&peer) {
            self.room.release(ledger, bytes);
            self.forget_if_idle(peer);
        }
    }

    fn add(&mut self, peer: PeerId, entry: WantEntry) {
        let hash = *entry.cid.hash();
        let mut kind = entry.kind;
        if let Some(before) = self.remove(peer, &hash)
            && before.kind == WantKind::Block
        {
            // Who asked for the block and now asks whether it is here still wants it.
            kind = WantKind::Block;
        }
        self.numbers += 1;
        let ledger = self.ledgers.entry(peer).or_default();
        ledger.wake(self.clock);
        let want = Want {
            cid: entry.cid,
            kind,
            send_dont_have: entry.send_dont_have,
            priority: entry.priority,
            number: self.numbers,
            place: Place::Queued,
        };
        let full = ledger.len() >= MAX_WANTS_PER_PEER
            || (self.total >= MAX_WANTS && ledger.len() >= MIN_WANTS_PER_PEER);
        if full {
            let Some(victim) = ledger.least_useful(&want) else { return ledger.refuse(&want) };
            self.remove(peer, &victim);
        }
        self.total += 1;
        self.ledgers.entry(peer).or_default().insert(want);
    }

    fn remove(&mut self, peer: PeerId, hash: &Hash) -> Option<Want> {
        let ledger = self.ledgers.get_mut(&peer)?;
        let want = ledger.remove(hash)?;
        self.total -= 1;
        self.unwatch(peer, hash);
        self.forget_if_idle(peer);
        Some(want)
    }

    fn unwatch(&mut self, peer: PeerId, hash: &Hash) {
        unwatch(&mut self.watched, peer, hash);
    }

    fn forget_if_idle(&mut self, peer: PeerId) {
        if self.ledgers.get(&peer).is_some_and(Ledger::is_idle) {
            self.ledgers.remove(&peer);
        }
    }
}

fn unwatch(watched: &mut HashMap<Hash, BoxSet<PeerId>>, peer: PeerId, hash: &Hash) {
    if let Some(peers) = watched.get_mut(hash) {
        peers.remove(&peer);
        if peers.is_empty() {
            watched.remove(hash);
        }
    }
}

/// The messages that one lookup leads to.
struct Answer {
    peer: PeerId,
    replies: Vec<Reply>,
    presences: Vec<(Cid, Presence)>,
}

impl Answer {
    /// `presences`: what there was to tell the peer already.
    fn new(peer: PeerId, presences: Vec<(Cid, Presence)>) -> Self {
        Self { peer, replies: Vec::new(), presences }
    }

    fn block(&mut self, block: &Block) {
        let raw = RawBlock::from(block);
        let bytes = raw.encoded_len();
        if self.replies.last().is_none_or(|last| last.bytes + bytes > MESSAGE_TARGET) {
            let (peer, message) = (self.peer, Message::default());
            self.replies.push(Reply { peer, message, bytes: 0 });
        }
        if let Some(last) = self.replies.last_mut() {
            last.message.blocks.push(raw);
            last.bytes += bytes;
        }
    }

    fn presence(&mut self, cid: Cid, presence: Presence) {
        self.presences.push((cid, presence));
    }

    fn finish(mut self, pending_bytes: i32) -> Vec<Reply> {
        if !self.presences.is_empty() {
            let bytes = self.presences.iter().map(|(cid, p)| presence_len(cid, *p)).sum();
            let (peer, message) = (self.peer, Message::default());
            // Where the peer is to look next: before the blocks, which take longer.
            let mut first = Reply { peer, message, bytes };
            first.message.presences = self.presences;
            self.replies.insert(0, first);
        }
        if let Some(last) = self.replies.last_mut() {
            last.message.pending_bytes = pending_bytes;
        }
        self.replies
    }
}

const _: () = assert!(MESSAGE_TARGET + MAX_BLOCK < super::message::MAX_MESSAGE);
const _: () = assert!(MAX_OUTSTANDING + MAX_BLOCK < MAX_READ && MAX_READ < MAX_HELD);
