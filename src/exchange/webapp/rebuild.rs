//! From a file's plain content back to its blocks. The answer of type 3 carries one block, the
//! root; the leaves are made again from the content, with the parameters that the root shows, and
//! kept when their CIDs are the root's. Pure: the caller hashes the leaves.

use std::collections::VecDeque;

use bytes::Bytes;
use cid::{Cid, Version};

use super::content::{ContentDone, ContentEvent};
use super::outcome::{Lie, Outcome, RebuildError, Unverifiable};
use super::pieces::Pieces;
use super::root::{Root, RootKind};
use crate::content::block::{Block, BlockError, Digest, MAX_BLOCK, RAW};
use crate::content::import::{FileBuilder, LeafPayload};
use crate::content::layout::Layout;

/// Most content held while the root has not come, unless the caller sets another limit.
pub const MAX_HELD: usize = 64 << 20;
/// Room that cutting itself needs: an unfinished leaf and what comes with the next piece.
const MIN_CUTTING: usize = 2 * MAX_BLOCK;

/// Turns the events of a [`super::ContentDecoder`] into verified blocks.
///
/// After each event take every [`Rebuild::next_leaf`], hash it, give the digests back *in the same
/// order* with [`Rebuild::leaf_hashed`], store what [`Rebuild::next_block`] hands out, and stop at
/// [`Rebuild::outcome`]. A block handed out is what its CID says; that it belongs to the file is
/// certain at [`Outcome::Complete`] only, so store blocks unpinned until then. The root is the
/// last block, and the only one of a file that fits in it: its content field is then not looked at.
///
/// The content may come before the root (from Go it always does). It is held then, up to a limit.
/// Past it, a guessed layout, if the caller gave one, is built on trust and judged by the root
/// when that comes; without one it is an error.
#[derive(Debug)]
pub struct Rebuild {
    cid: Cid,
    max_held: usize,
    guess: Option<Layout>,
    root: Option<Root>,
    plan: Option<Plan>,
    content: Pieces,
    content_len: u64,
    /// Leaves that the caller is hashing.
    hashing: VecDeque<(LeafPayload, u64)>,
    blocks: VecDeque<Block>,
    done: Option<ContentDone>,
    outcome: Option<Outcome>,
}

/// How content becomes leaves.
#[derive(Debug)]
enum Plan {
    /// The root links raw leaves: its sizes say where to cut, its CIDs what must come out.
    Cut { cut: usize, checked: usize },
    /// A tree of one layout. `below`: how far above the leaves the root's children are.
    Build { builder: FileBuilder, below: Option<usize>, children: usize },
}

impl Rebuild {
    pub fn new(cid: Cid) -> Self {
        Self {
            cid,
            max_held: MAX_HELD,
            guess: None,
            root: None,
            plan: None,
            content: Pieces::default(),
            content_len: 0,
            hashing: VecDeque::new(),
            blocks: VecDeque::new(),
            done: None,
            outcome: None,
        }
    }

    /// Holds at most `limit` bytes of content that come before the root.
    pub fn with_held_limit(mut self, limit: usize) -> Self {
        self.max_held = limit;
        self
    }

    /// The layout to try when more content comes before the root than may be held.
    pub fn with_guess(mut self, layout: Layout) -> Self {
        self.guess = Some(layout);
        self
    }

    /// Guesses what the reference program imports with: ipfs-lite's defaults.
    pub fn with_usual_guess(mut self) -> Self {
        self.guess = Layout::new(256 << 10, 174, Version::V1, false).ok();
        self
    }

    /// Takes the next event. Events after an outcome are ignored.
    pub fn event(&mut self, event: ContentEvent) -> Result<(), RebuildError> {
        if self.outcome.is_some() {
            return Ok(());
        }
        match event {
            ContentEvent::BodyLength(_) => {}
            ContentEvent::RawNode(bytes) => self.raw_node(bytes)?,
            ContentEvent::Content(piece) => self.content(piece)?,
            ContentEvent::Done(done) => self.finished(done),
        }
        self.conclude();
        Ok(())
    }

    /// The next leaf to hash, if enough content has come.
    pub fn next_leaf(&mut self) -> Option<LeafPayload> {
        let (payload, len) = match self.plan.as_mut()? {
            Plan::Cut { cut, .. } => {
                let len = self.root.as_ref()?.sizes.get(*cut).copied()?;
                let data = self.content.take(usize::try_from(len).ok()?)?;
                *cut += 1;
                (LeafPayload { version: Version::V1, codec: RAW, data }, len)
            }
            Plan::Build { builder, .. } => {
                let chunk = match self.content.take(builder.layout().chunk_size()) {
                    Some(chunk) => chunk,
                    None if self.done.is_some() && self.content.len() > 0 => {
                        self.content.take_all()
                    }
                    None => return None,
                };
                let len = chunk.len() as u64;
                (builder.leaf_payload(chunk), len)
            }
        };
        self.hashing.push_back((payload.clone(), len));
        Some(payload)
    }

    /// The digest of the oldest leaf that has none yet.
    pub fn leaf_hashed(&mut self, digest: Digest) -> Result<(), RebuildError> {
        if self.outcome.is_some() {
            return Ok(());
        }
        let (payload, len) =
            self.hashing.pop_front().ok_or(RebuildError::NoLeaf { cid: self.cid })?;
        let block = Block::with_digest(payload.version, payload.codec, &digest, payload.data);
        match &mut self.plan {
            Some(Plan::Cut { checked, .. }) => {
                let index = *checked;
                *checked += 1;
                let expected = self.root.as_ref().and_then(|root| root.links.get(index));
                if expected.is_none_or(|cid| cid.hash() != block.cid().hash()) {
                    self.conclude_with(Outcome::Lying(Lie::Leaf { index }));
                    return Ok(());
                }
                self.blocks.push_back(block);
            }
            Some(Plan::Build { builder, below, children }) => {
                let made = builder.push_leaf(*block.cid(), len, block.data().len() as u64);
                // The nodes that a leaf completes come one for each level, lowest first.
                let child = match below {
                    Some(0) => Some(block.cid()),
                    Some(level) => made.get(*level - 1).map(Block::cid),
                    None => None,
                };
                if let (Some(child), Some(root)) = (child, &self.root) {
                    let expected = root.links.get(*children);
                    *children += 1;
                    if expected != Some(child) {
                        self.content_only(Unverifiable::Differs);
                        return Ok(());
                    }
                }
                self.blocks.push_back(block);
                self.blocks.extend(made);
            }
            None => {}
        }
        self.conclude();
        Ok(())
    }

    /// The next block to store.
    pub fn next_block(&mut self) -> Option<Block> {
        self.blocks.pop_front()
    }

    /// The end, once it is known; after [`Outcome::Complete`] and [`Outcome::Directory`] take the
    /// remaining blocks, after any other the rest of the stream is of no use.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    fn raw_node(&mut self, bytes: Bytes) -> Result<(), RebuildError> {
        let block = match Block::verify(self.cid, bytes) {
            Ok(block) => block,
            Err(BlockError::Mismatch { .. }) => {
                self.conclude_with(Outcome::Lying(Lie::RawNode));
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        };
        let root = Root::read(block);
        let plan = match (&root.kind, &self.plan) {
            (RootKind::NotUnixFs, _) => Err(Unverifiable::NotUnixFs),
            (RootKind::Single | RootKind::Directory { .. }, _) => {
                // Nothing is cut from the content of these.
                (self.content, self.guess) = (Pieces::default(), None);
                Ok(None)
            }
            (RootKind::Odd, _) => Err(Unverifiable::UnknownLayout),
            // A guess is at work: what it comes to is compared at the end.
            (RootKind::RawLeaves | RootKind::Tree, Some(_)) => Ok(self.plan.take()),
            (RootKind::RawLeaves, None) => Ok(Some(Plan::Cut { cut: 0, checked: 0 })),
            (RootKind::Tree, None) => match Layout::of_root(&root.block) {
                Some(layout) => Ok(Some(Plan::Build {
                    builder: FileBuilder::new(layout),
                    below: levels_below(layout, &root.sizes),
                    children: 0,
                })),
                None => Err(Unverifiable::UnknownLayout),
            },
        };
        self.root = Some(root);
        match plan {
            Ok(plan) => self.plan = plan,
            Err(why) => self.content_only(why),
        }
        self.check_length();
        Ok(())
    }

    fn content(&mut self, piece: Bytes) -> Result<(), RebuildError> {
        self.content_len += piece.len() as u64;
        self.check_length();
        if self.outcome.is_some() || self.root.as_ref().is_some_and(Root::needs_no_content) {
            return Ok(());
        }
        let len = self.content.len() + piece.len();
        if len > self.max_held && self.plan.is_none() {
            let Some(guess) = self.guess else {
                return Err(RebuildError::HeldTooMuch { cid: self.cid, limit: self.max_held });
            };
            let builder = FileBuilder::new(guess);
            self.plan = Some(Plan::Build { builder, below: None, children: 0 });
        }
        if len > self.max_held.saturating_add(MIN_CUTTING) {
            // The caller does not take its leaves.
            return Err(RebuildError::HeldTooMuch { cid: self.cid, limit: self.max_held });
        }
        self.content.push(piece);
        Ok(())
    }

    fn finished(&mut self, done: ContentDone) {
        let other = |cid: &Cid| cid.hash() != self.cid.hash();
        let outcome = match (&done, &self.root) {
            (ContentDone { error: Some(reason), .. }, _) => {
                Some(Outcome::NotFound { reason: reason.clone() })
            }
            (ContentDone { cid: Some(cid), .. }, _) if other(cid) => {
                Some(Outcome::Lying(Lie::OtherCid))
            }
            (_, Some(root)) if done.is_directory != root.is_directory() => {
                Some(Outcome::Lying(Lie::Kind))
            }
            (_, Some(root)) if root.size.is_some_and(|size| size != self.content_len) => {
                Some(Outcome::Lying(Lie::Length))
            }
            _ => None,
        };
        self.done = Some(done);
        if let Some(outcome) = outcome {
            self.conclude_with(outcome);
        }
    }

    /// More content than the root's file has.
    fn check_length(&mut self) {
        let size = self.root.as_ref().and_then(|root| root.size);
        if self.outcome.is_none() && size.is_some_and(|size| self.content_len > size) {
            self.conclude_with(Outcome::Lying(Lie::Length));
        }
    }

    /// Ends when the message has ended and no leaf is left to cut or to hash.
    fn conclude(&mut self) {
        if self.outcome.is_some() || !self.hashing.is_empty() || self.content.len() > 0 {
            return;
        }
        let (Some(done), Some(root)) = (&self.done, &self.root) else { return };
        let complete = Outcome::Complete {
            root: self.cid,
            size: self.content_len,
            mime_type: done.mime_type.clone(),
        };
        match (&root.kind, self.plan.take()) {
            (RootKind::Directory { entries: Some(of_root) }, _) => {
                if done.entries.as_ref() != Some(of_root) {
                    return self.conclude_with(Outcome::Lying(Lie::Entries));
                }
                let (root, entries) = (root.block.clone(), of_root.clone());
                self.complete_with(root, |root| Outcome::Directory {
                    root,
                    entries,
                    verified: true,
                });
            }
            (RootKind::Directory { entries: None }, _) => {
                let entries = done.entries.clone().unwrap_or_default();
                let root = root.block.clone();
                self.complete_with(root, |root| Outcome::Directory {
                    root,
                    entries,
                    verified: false,
                });
            }
            // Zero-length leaves at the end may still be uncut.
            (_, Some(Plan::Cut { cut, checked })) if checked < root.links.len() => {
                self.plan = Some(Plan::Cut { cut, checked });
            }
            (_, Some(Plan::Build { builder, .. })) => {
                let (rest, file) = builder.finish();
                if file.cid != self.cid {
                    return self.content_only(Unverifiable::Differs);
                }
                self.blocks.extend(rest);
                self.outcome = Some(complete);
            }
            _ => {
                let root = root.block.clone();
                self.complete_with(root, |_| complete);
            }
        }
    }

    fn complete_with(&mut self, root: Block, outcome: impl FnOnce(Cid) -> Outcome) {
        self.outcome = Some(outcome(*root.cid()));
        self.blocks.push_back(root);
    }

    fn content_only(&mut self, why: Unverifiable) {
        let root = self.root.as_ref().map(|root| root.block.clone());
        self.conclude_with(Outcome::ContentOnly { root, why });
    }

    /// An end without blocks: lets go of everything held.
    fn conclude_with(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        (self.content, self.plan) = (Pieces::default(), None);
        self.hashing.clear();
        self.blocks.clear();
    }
}

/// How many levels of nodes lie between the leaves and the root's children.
fn levels_below(layout: Layout, sizes: &[u64]) -> Option<usize> {
    let full = *sizes.first()?;
    let mut len = layout.chunk_size() as u64;
    let mut levels = 0;
    while len < full {
        len = len.checked_mul(layout.width() as u64)?;
        levels += 1;
    }
    (len == full).then_some(levels)
}
