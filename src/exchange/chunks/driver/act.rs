//! What the coordinator says is done, and what comes of it is checked and handed on.

use std::sync::Arc;

use futures::{FutureExt as _, future::abortable};

use super::{Run, Unit, bad_file, tell::What};
use crate::{
    content::block::{Block, Cid},
    error::{Error, Result},
    exchange::{
        bitswap::Session,
        chunks::{
            ChunkKeeper,
            coordinator::{ATTEMPTS, Action, ChunkId, Failure, SeederId, Via},
            http::HttpChunk,
        },
    },
};

/// Characters of a reason that are told.
const MAX_REASON: usize = 200;

impl Run {
    /// Does what the coordinator says.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.coordinator.next_action() {
            match action {
                Action::Begin { chunk, seeder } => self.note(chunk, What::Started(seeder)),
                // It has come already and is on its way into the store.
                Action::Ask { chunk, .. } if self.being_kept.contains(&chunk) => {}
                Action::Ask { chunk, seeder, via: Via::Bitswap } => {
                    if let (Some(unit), Some(session)) = self.of(chunk, seeder) {
                        session.request(&[unit.cid]);
                    }
                }
                Action::Ask { chunk, seeder, via: Via::Http } => self.fetch(chunk, seeder),
                Action::Stop { chunk, seeder } => {
                    if let (Some(unit), Some(session)) = self.of(chunk, seeder) {
                        session.withdraw(&[unit.cid]);
                    }
                    if let Some(fetch) = self.fetching.remove(&chunk) {
                        fetch.abort();
                    }
                }
                Action::GaveUp { chunk, seeder, reason } => {
                    let peer = self.seeders.get(seeder).map(|seeder| seeder.peer.to_string());
                    let peer = peer.unwrap_or_default();
                    let reason = format!("peer {peer}, {ATTEMPTS} attempts: {reason}");
                    self.note(chunk, What::Failed(reason));
                }
                Action::Done { chunk } => {
                    if let Some(unit) = self.units.get(chunk)
                        && self.by_hash.get(unit.cid.hash()) == Some(&chunk)
                    {
                        self.by_hash.remove(unit.cid.hash());
                    }
                    self.note(chunk, What::Complete);
                }
            }
        }
    }

    fn of(&self, chunk: ChunkId, seeder: SeederId) -> (Option<&Unit>, Option<&Session>) {
        (self.units.get(chunk), self.sessions.get(seeder))
    }

    fn fetch(&mut self, chunk: ChunkId, seeder: SeederId) {
        let (Some(unit), Some(from)) = (self.units.get(chunk), self.seeders.get(seeder)) else {
            return;
        };
        let url = from.http_url.as_deref().unwrap_or_default();
        let (cid, pieces) = (unit.cid, self.pieces.0.clone());
        let planned = HttpChunk::new(url, &cid, unit.range.as_ref());
        let (work, abort) = abortable(async move {
            let plan = planned.map_err(|reason| Failure::Attempt(reason.to_owned()))?;
            plan.fetch(cid, |bytes| {
                // What finds no room is told with the next piece.
                let _ = pieces.try_send((chunk, seeder, bytes));
            })
            .await
        });
        self.fetching.insert(chunk, abort);
        self.http.push(Box::pin(work.map(move |fetched| {
            let fetched = fetched.ok().map(|result| result.map_err(shortened));
            (chunk, seeder, fetched)
        })));
    }

    pub(super) fn arrived(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        seeder: SeederId,
        block: Block,
    ) -> Result<()> {
        let Some(&chunk) = self.by_hash.get(block.cid().hash()) else { return Ok(()) };
        let Some(unit) = self.units.get_mut(chunk) else { return Ok(()) };
        if self.being_kept.contains(&chunk) {
            return Ok(());
        }
        let len = block.data().len() as u64;
        unit.size = len;
        let (cid, is_node) = (unit.cid, unit.indexes.is_empty());
        if is_node {
            self.supply(&block)?;
        } else if block.links().is_ok_and(|links| !links.is_empty()) {
            let reason = "it has links where its file's nodes announce a leaf".to_owned();
            return Err(Error::BadContent { cid, reason });
        }
        self.progress(chunk, len);
        self.being_kept.push(chunk);
        let keeping = keeper.keep(block);
        self.keeping.push(Box::pin(keeping.map(move |kept| (chunk, seeder, kept))));
        Ok(())
    }

    pub(super) fn supply(&mut self, block: &Block) -> Result<()> {
        let Some(outline) = &mut self.outline else { return Ok(()) };
        outline.supply(block).map_err(|error| bad_file(*block.cid(), &error))
    }

    pub(super) fn exhausted(&mut self, seeder: SeederId, cids: Vec<Cid>) {
        if let Some(session) = self.sessions.get(seeder) {
            session.withdraw(&cids);
        }
        let now = self.now();
        for cid in cids {
            let Some(&chunk) = self.by_hash.get(cid.hash()) else { continue };
            // A fetch by HTTP is another attempt than the one that failed.
            if !self.fetching.contains_key(&chunk) && !self.being_kept.contains(&chunk) {
                let why = "it does not have it by Bitswap or cannot be reached".to_owned();
                self.coordinator.failed(chunk, seeder, Failure::Attempt(why), now);
            }
        }
    }
}

/// What servers say may be long.
fn shortened(failure: Failure) -> Failure {
    let cut = |text: String| text.chars().take(MAX_REASON).collect();
    match failure {
        Failure::Attempt(reason) => Failure::Attempt(cut(reason)),
        Failure::Url(reason) => Failure::Url(cut(reason)),
    }
}
