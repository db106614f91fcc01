//! The owner of this peer's directory tree. One task applies all edits: those that wait together
//! become one commit, in which blocks and root change at once (durable before visible).

use std::sync::{Arc, Mutex, PoisonError};

use futures::{
    SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
};

use super::convert;
use crate::{
    content::{
        block::Cid,
        directory::{DirParams, Entry, Tree, TreeError},
        path::TreePath,
        profile::Profile,
    },
    error::{Error, Result},
    exchange::webapp::FileList,
    platform::task,
    store::{RootChange, Session, Store},
};

/// Requests that wait for the task; a caller beyond that waits in turn.
const QUEUE: usize = 1024;
/// Edits in one commit.
const MAX_BATCH: usize = 4096;
/// The root in the store that names the tree.
pub(super) const TREE_ROOT: &str = "tree";

/// A cheap handle to the task.
#[derive(Clone)]
pub(crate) struct TreeHandle {
    requests: mpsc::Sender<Request>,
    root: Arc<Mutex<Cid>>,
}

/// One change of the tree.
pub(super) enum Edit {
    Insert(TreePath, Entry),
    CreateDirectory(TreePath),
    Remove(TreePath),
}

/// What an edit came to: the CID at its path (none after a removal) and of the whole tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edited {
    pub cid: Option<Cid>,
    pub root: Cid,
}

enum Request {
    Edit(Box<Pending>),
    List { reply: oneshot::Sender<Result<Arc<FileList>>> },
}

impl TreeHandle {
    /// Opens the tree that the store names, or an empty one, and starts its task.
    pub(super) async fn open(store: Store) -> Result<Self> {
        let params = DirParams::from(Profile::default());
        let (tree, root) = match store.root(TREE_ROOT).await? {
            Some(root) => (Tree::open(root, params), root),
            None => {
                let mut tree = Tree::empty(params);
                let root = commit(&store, &mut tree, None, Vec::new()).await?;
                (tree, root)
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let shared = Arc::new(Mutex::new(root));
        let owner = Owner { store, tree, params, root: shared.clone(), list: None };
        task::spawn(owner.run(receiver));
        Ok(Self { requests: sender, root: shared })
    }

    pub(super) fn root(&self) -> Cid {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `edit` together with the blocks that it brings. Resolves when it is durable.
    pub(super) async fn edit(&self, edit: Edit, session: Option<Session>) -> Result<Edited> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Edit(Box::new(Pending { edit, session, reply })), answer).await
    }

    /// The whole tree; the same object until the next change.
    pub(crate) async fn list(&self) -> Result<Arc<FileList>> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::List { reply }, answer).await
    }

    async fn send<T>(&self, request: Request, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        self.requests.clone().send(request).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Ends the task once what waits is done; later requests fail with `Closed`.
    pub(super) fn close(&self) {
        self.requests.clone().close_channel();
    }
}

struct Owner {
    store: Store,
    tree: Tree,
    params: DirParams,
    root: Arc<Mutex<Cid>>,
    list: Option<Arc<FileList>>,
}

/// An edit and who waits for it.
struct Pending {
    edit: Edit,
    session: Option<Session>,
    reply: oneshot::Sender<Result<Edited>>,
}

impl Owner {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.next().await {
            let mut batch = Vec::new();
            let mut lists = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    // Nobody waits for it any more: the call was aborted.
                    Request::Edit(pending) if pending.reply.is_canceled() => {}
                    Request::Edit(pending) => match self.apply(&pending.edit).await {
                        Ok(()) => batch.push(*pending),
                        Err(error) => drop(pending.reply.send(Err(error))),
                    },
                    Request::List { reply } => lists.push(reply),
                }
                if batch.len() < MAX_BATCH {
                    next = requests.try_recv().ok();
                }
            }
            if !batch.is_empty() {
                self.commit(batch).await;
            }
            for reply in lists {
                let list = self.list().await;
                drop(reply.send(list));
            }
            self.tree.unload();
        }
    }

    async fn apply(&mut self, edit: &Edit) -> Result<()> {
        let root = self.current_root();
        with_blocks(&self.store, &mut self.tree, root, |tree| match edit {
            Edit::Insert(path, entry) => tree.insert(path, *entry),
            Edit::CreateDirectory(path) => tree.create_directory(path),
            Edit::Remove(path) => tree.remove(path),
        })
        .await
    }

    async fn commit(&mut self, mut batch: Vec<Pending>) {
        while !batch.is_empty() {
            let before = self.current_root();
            let (mut storing, plain): (Vec<Pending>, Vec<Pending>) =
                batch.into_iter().partition(|pending| pending.session.is_some());
            let sessions =
                storing.iter_mut().filter_map(|pending| pending.session.take()).collect();
            match commit(&self.store, &mut self.tree, Some(before), sessions).await {
                Ok(root) => {
                    *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
                    self.list = None;
                    for Pending { edit, reply, .. } in storing.into_iter().chain(plain) {
                        let cid = self.cid_after(&edit, root).await;
                        drop(reply.send(cid.map(|cid| Edited { cid, root })));
                    }
                    return;
                }
                Err(error) => {
                    self.tree = Tree::open(before, self.params);
                    // What brings no blocks may still succeed: a removal when the quota is used up.
                    let (failed, again) =
                        if storing.is_empty() { (plain, storing) } else { (storing, plain) };
                    for Pending { reply, .. } in failed {
                        drop(reply.send(Err(error.clone())));
                    }
                    batch = Vec::new();
                    for pending in again {
                        match self.apply(&pending.edit).await {
                            Ok(()) => batch.push(pending),
                            Err(error) => drop(pending.reply.send(Err(error))),
                        }
                    }
                }
            }
        }
    }

    /// What is at the path of an edit now.
    async fn cid_after(&mut self, edit: &Edit, root: Cid) -> Result<Option<Cid>> {
        match edit {
            Edit::Insert(_, entry) => Ok(Some(entry.cid)),
            Edit::CreateDirectory(path) => {
                let entry =
                    with_blocks(&self.store, &mut self.tree, root, |tree| tree.get(path)).await?;
                Ok(Some(entry.cid))
            }
            Edit::Remove(_) => Ok(None),
        }
    }

    async fn list(&mut self) -> Result<Arc<FileList>> {
        if let Some(list) = &self.list {
            return Ok(list.clone());
        }
        let root = self.current_root();
        let top = TreePath::root();
        let entries =
            with_blocks(&self.store, &mut self.tree, root, |tree| tree.list(&top)).await?;
        let list = Arc::new(convert::file_list(root, entries));
        self.list = Some(list.clone());
        Ok(list)
    }

    fn current_root(&self) -> Cid {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats `step` until every directory node that it needs is loaded.
async fn with_blocks<T>(
    store: &Store,
    tree: &mut Tree,
    root: Cid,
    mut step: impl FnMut(&mut Tree) -> Result<T, TreeError>,
) -> Result<T> {
    loop {
        let need = match step(tree) {
            Ok(value) => return Ok(value),
            Err(TreeError::Need(need)) => need,
            Err(error) => return Err(convert::tree_error(root, error)),
        };
        for (cid, block) in need.iter().zip(store.get_many(&need).await?) {
            let block = block.ok_or_else(|| convert::missing(cid))?;
            tree.supply(&block).map_err(|error| convert::tree_error(root, error))?;
        }
    }
}

/// Writes the tree's changed nodes, the sessions' blocks and the new root in one commit.
async fn commit(
    store: &Store,
    tree: &mut Tree,
    before: Option<Cid>,
    mut sessions: Vec<Session>,
) -> Result<Cid> {
    let flushed = match before {
        Some(root) => with_blocks(store, tree, root, Tree::flush).await?,
        None => tree.flush().map_err(|error| Error::Storage { reason: error.to_string() })?,
    };
    let mut nodes = store.session();
    for block in flushed.blocks {
        nodes.put(block).await?;
    }
    sessions.push(nodes);
    let change =
        RootChange { name: TREE_ROOT.to_owned(), expected: before, new: Some(flushed.root) };
    store.commit(sessions, vec![change]).await?;
    Ok(flushed.root)
}
