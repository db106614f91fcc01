//! What is told, as far as the listener keeps up.

use super::Run;
use crate::{
    content::block::Cid,
    error::Error,
    exchange::chunks::{
        coordinator::{ChunkId, SeederId},
        events::ChunkEvent,
    },
};

/// Something to tell about each place of a unit.
pub(super) struct Told {
    unit: ChunkId,
    what: What,
    /// Places told already.
    from: usize,
}

pub(super) enum What {
    Started(SeederId),
    Complete,
    Failed(String),
}

impl Run {
    pub(super) fn progress(&self, chunk: ChunkId, bytes_received: u64) {
        let Some(unit) = self.units.get(chunk) else { return };
        if let Some(&chunk_index) = unit.indexes.first() {
            let (file_hash, total_bytes) = (self.names.0.clone(), unit.size.max(bytes_received));
            let event =
                ChunkEvent::Progress { file_hash, chunk_index, bytes_received, total_bytes };
            self.events.send(event);
        }
    }

    pub(super) fn note(&mut self, unit: ChunkId, what: What) {
        self.untold.push_back(Told { unit, what, from: 0 });
    }

    /// Tells what there is room for.
    pub(super) fn tell(&mut self) {
        while let Some(told) = self.untold.front_mut() {
            let unit = self.units.get(told.unit);
            let index = unit.and_then(|unit| Some((unit.cid, *unit.indexes.get(told.from)?)));
            let Some((cid, chunk_index)) = index else {
                self.untold.pop_front();
                continue;
            };
            if !self.events.has_room() {
                return;
            }
            told.from += 1;
            let (file_hash, path) = self.names.clone();
            let event = match &told.what {
                What::Started(seeder) => {
                    let Some(seeder) = self.seeders.get(*seeder) else { continue };
                    ChunkEvent::Started { file_hash, chunk_index, cid, peer: seeder.peer }
                }
                What::Complete => ChunkEvent::Complete { file_hash, chunk_index, path },
                What::Failed(error) => {
                    ChunkEvent::Failed { file_hash, chunk_index, error: error.clone() }
                }
            };
            self.events.send(event);
        }
    }

    pub(super) fn not_found(
        &self,
        root: Cid,
        chunk: ChunkId,
        reasons: &[(SeederId, String)],
    ) -> Error {
        let what = match self.units.get(chunk) {
            Some(unit) if unit.cid != root => format!("block {} of {root}", unit.cid),
            _ => format!("block {root}"),
        };
        let peer = |id: SeederId| self.seeders.get(id).map(|seeder| seeder.peer.to_string());
        let asked = reasons.iter().filter_map(|(id, why)| Some(format!("{}: {why}", peer(*id)?)));
        Error::NotFound { what, asked: asked.collect() }
    }
}
