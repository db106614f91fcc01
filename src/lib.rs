//! tabpeer: a libp2p/IPFS peer for a browser tab, and for native programs that test or serve it.
//!
//! # The map
//!
//! ```text
//!  js        what the npm package exports (wasm only): arguments in, results and failures out
//!  peer      the whole API in plain Rust: Peer
//!  exchange  protocols that move content: pure codecs and machines, thin drivers
//!  network   Network handle -> commands -> event loop, the only owner of the Swarm
//!  store     blocks, reference counts, roots, identity, over a Database
//!  content   pure: blocks, dag-pb, UnixFS, import, reading, directories, paths, MIME types
//!  platform  the contract (Database, transports, hashing, locks, tasks) and its two sides: web, native
//! ```
//!
//! Arrows go down: `js -> peer -> exchange -> {network, store} -> platform`; `content` and the pure
//! cores use none of the others. `cfg(target_family = "wasm")` stands here and in `platform` only,
//! `JsValue` in `js` and `platform::web` only. The relay that browsers meet at is a package of its
//! own, `relay/`.
//!
//! # How a file goes in
//!
//! `Peer::store_file` cuts the stream into chunks ([`content::import`]), hashes several at a time
//! ([`platform::sha256`]: WebCrypto in a browser), and puts the blocks into a [`store::Session`],
//! which writes them behind in batches. The tree's owner task then applies the edit to the directory
//! in memory and commits the rest of the blocks, the changed directory nodes, the reference counts
//! and the new root as *one* batch, with compare-and-swap on the root. Edits that wait together
//! share a commit. Only then does the call resolve: durable before visible.
//!
//! # How a file comes
//!
//! `Peer::get_file` looks into the store, else joins the flight for that CID, or starts one. A flight
//! asks the fallback peer, then the connected peers, over `/p2p-webapp/1.0.0`
//! ([`exchange::webapp`]). The answer is decoded as it streams in, cut into the blocks that the
//! root demands, each verified before it is stored; when all are there the file is committed as a
//! root of its own (`cache/<cid>`) and served on. A directory is verified and handed over, not kept:
//! the store names only what is whole, and what a directory names was not fetched.
//!
//! # Invariants
//!
//! * A [`content::block::Block`] matches its CID: there is no other way to make one.
//! * The store never names a root that is not whole, and never frees what something else refers to
//!   ([`store`] says how references are counted).
//! * One task owns the swarm, one owns the tree; everything else sends them bounded messages with a
//!   one-shot reply. Dropping the caller's future cancels the work, up to the moment at which an edit
//!   of the tree is taken up: from then on it is done.
//! * Every remote length, queue, map and buffer has a named bound, checked before anything is
//!   allocated. Nothing that a remote or a caller sends can panic: in wasm that would end the peer.
//! * Pure means: events and the time in, decisions out; no clock, no randomness, no async.

// A browser has one thread; the same code natively has many.
#![cfg_attr(target_family = "wasm", allow(clippy::arc_with_non_send_sync))]

pub mod config;
pub mod content;
pub mod error;
pub mod exchange;
#[cfg(target_family = "wasm")]
mod js;
pub mod network;
pub mod peer;
pub mod platform;
pub mod store;
