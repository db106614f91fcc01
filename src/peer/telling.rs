//! What this peer tells others that it has (capabilities): the files and directories of its tree, and
//! what it has fetched.

use libp2p::PeerId;

use super::{Stored, download::Downloads, tree::TreeHandle};
use crate::{
    content::block::Cid,
    exchange::{capabilities::Capabilities, fetch::LikelyHolders},
    network::Network,
    platform::task,
};

/// Peers that say that they have something, asked at once.
const MAX_LIKELY: usize = 4;

impl LikelyHolders for Capabilities {
    fn holders(&self, cid: &Cid) -> Vec<PeerId> {
        let mut holders = Self::holders(self, cid);
        holders.truncate(MAX_LIKELY);
        holders
    }
}

/// Tells, in the background, what there is at the start.
pub(super) fn tell_all(
    capabilities: &Capabilities,
    network: &Network,
    tree: &TreeHandle,
    downloads: &Downloads,
) {
    let (capabilities, network) = (capabilities.clone(), network.clone());
    let (tree, downloads) = (tree.clone(), downloads.clone());
    task::spawn(async move {
        let mut own = capabilities.own();
        own.swarm_addresses = network.status().current().listen_addresses;
        capabilities.set_own(own);
        let mut roots = downloads.roots().await.unwrap_or_default();
        roots.push(tree.root());
        if let Ok(list) = tree.list().await {
            roots.extend(list.entries.values().map(|entry| entry.cid));
        }
        capabilities.set_content(&roots);
    });
}

/// Tells what an edit of the tree has changed.
pub(super) fn tell_edit(capabilities: Option<&Capabilities>, before: Cid, stored: &Stored) {
    let Some(capabilities) = capabilities else { return };
    capabilities.remove(&before);
    capabilities.add(&stored.root);
    capabilities.add(&stored.file);
}
