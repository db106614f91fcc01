//! The task that names what is whole and keeps what is not, one after the other.

use std::sync::Weak;

use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
};

use super::{Part, Shared, lock, name_of, parts_of};
use crate::{
    content::block::Cid,
    store::{RootChange, Session, StoreError},
};

/// Files named in one commit.
const MAX_BATCH: usize = 64;

/// What is written by one task, one after the other, so that no part is written after its file became
/// whole.
pub(super) enum Job {
    /// Nobody waits for it any more; keep what has come.
    Abandoned {
        root: Cid,
        part: Part,
    },
    Whole(Whole),
}

/// A file of which all has come, its nodes in the session.
pub(super) struct Whole {
    pub root: Cid,
    pub session: Session,
    pub reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Does the jobs as long as there is a peer; files that wait together share a commit.
pub(super) async fn write(shared: Weak<Shared>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.next().await {
        let Some(shared) = shared.upgrade() else { return };
        let mut next = Some(job);
        while let Some(job) = next.take() {
            let mut batch = Vec::new();
            match job {
                Job::Abandoned { root, part } => shared.keep(root, part).await,
                Job::Whole(whole) => batch.push(whole),
            }
            while !batch.is_empty() && batch.len() < MAX_BATCH {
                match jobs.try_recv() {
                    Ok(Job::Whole(whole)) if batch.iter().all(|other| other.root != whole.root) => {
                        batch.push(whole);
                    }
                    Ok(other) => {
                        next = Some(other);
                        break;
                    }
                    Err(_) => break,
                }
            }
            if !batch.is_empty() {
                shared.name(batch).await;
            }
        }
    }
}

impl Shared {
    async fn keep(&self, root: Cid, part: Part) {
        // Somebody else may have made it whole.
        if matches!(self.store.root(&name_of(&root)).await, Ok(None))
            && let Err(error) = part.write(&self.store, root).await
        {
            tracing::debug!(%root, %error, "what was fetched before an abort is lost");
        }
    }

    /// Names files that are whole, and drops their parts. A disk that is full for one is so for all.
    async fn name(&self, batch: Vec<Whole>) {
        let roots: Vec<Cid> = batch.iter().map(|whole| whole.root).collect();
        let (sessions, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|whole| (whole.session, whole.reply)).unzip();
        let outcome = match self.changes(&roots).await {
            Ok(changes) => self.store.commit(sessions, changes).await,
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            let mut partial = lock(&self.partial);
            partial.retain(|root| !roots.contains(root));
            drop(partial);
            roots.iter().for_each(|root| self.tell(root));
        }
        for reply in replies {
            let _ = reply.send(outcome.clone());
        }
    }

    async fn changes(&self, roots: &[Cid]) -> Result<Vec<RootChange>, StoreError> {
        let names: Vec<String> = roots.iter().map(name_of).collect();
        let expected = self.store.root_many(&names).await?;
        let change = |((root, name), expected): ((&Cid, _), _)| RootChange {
            name,
            expected,
            new: Some(*root),
        };
        let mut changes: Vec<_> = roots.iter().zip(names).zip(expected).map(change).collect();
        let partial: Vec<Cid> = {
            let partial = lock(&self.partial);
            roots.iter().filter(|root| partial.contains(root)).copied().collect()
        };
        for root in partial {
            let parts = self.store.roots(&parts_of(&root)).await?.into_iter();
            let drop = |(name, cid)| RootChange { name, expected: Some(cid), new: None };
            changes.extend(parts.map(drop));
        }
        Ok(changes)
    }
}
