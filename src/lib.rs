//! tabpeer: a libp2p/IPFS peer for a browser tab, and for native programs that test or serve it.
//!
//! # The map
//!
//! ```text
//!  js        what the npm package exports (wasm only): arguments in, results and failures out
//!  peer      the whole API in plain Rust: Peer
//!  exchange  the chain of sources; protocols that move content: pure cores, thin drivers over streams
//!  messaging messages from peer to peer: pure links, a driver over streams; topics: pure parts; word of
//!            new content, one step beyond a topic
//!  network   Network handle -> commands -> event loop, the only owner of the Swarm
//!  store     blocks, reference counts, roots, identity, over a Database
//!  content   pure: blocks, dag-pb, UnixFS, import, reading, directories, paths, MIME types
//!  platform  the contract (Database, transports, hashing, locks, tasks) and its two sides: web, native
//! ```
//!
//! Arrows go down: `js -> peer -> {exchange, messaging} -> {network, store} -> platform`; `content`
//! and the pure cores use none of the others. One exception: `network` drives the pure parts of
//! [`messaging::topics`]. `cfg(target_family = "wasm")` stands here and in
//! `platform` only, `JsValue` in `js` and `platform::web` only. The relay that browsers meet at is a
//! package of its own, `relay/`.
//!
//! # How a file goes in
//!
//! `Peer::store_file` cuts the stream into chunks ([`content::import`]), hashes several at a time
//! ([`platform::sha256`]: WebCrypto in a browser), and puts the blocks into a [`store::Session`],
//! which writes them behind in batches. The tree's owner task then applies the edit to the directory
//! in memory and commits the rest of the blocks, the changed directory nodes, the reference counts
//! and the new root as *one* batch, with compare-and-swap on the root. Edits that wait together
//! share a commit. Only then does the call resolve: durable before visible. In a browser a row of a
//! large block says where its bytes are: a worker has appended them to a file before
//! (`platform::web::segments`).
//!
//! # How a file comes
//!
//! `Peer::get_file` looks into the store, else joins the flight for that CID, or starts one.
//! `Peer::open_file` does the same for a reader that will not wait for the whole, or wants a range.
//! Both read through [`content::read`], which names the blocks that come next, and a
//! [`exchange::fetch::Fetch`], which gets them: a pure chain of sources ([`exchange::fetch::chain`])
//! decides who is asked for what and when the next is. What is stored here comes first; then, each
//! stage asked in parallel, the connected peers with the call's fallback peer (by Bitswap, or
//! `/p2p-webapp/1.0.0` or `/cas/1.0.0` where a peer speaks no better), providers found through the DHT
//! and delegated routers, the relays' gateways, public gateways. The source that delivers leads; one
//! that says no, fails or is silent makes room for the next. The order of sources and of peers is a
//! strategy's ([`exchange::fetch::strategy`]), which judges by what was measured.
//!
//! Every block is verified before it goes anywhere. It is stored as it comes: every few seconds, or
//! some ten MiB, a part is committed, so that neither a failure nor a closed tab costs more than the last
//! of it, and when all is there one commit names `cache/<cid>` and drops the parts. The directories on the way are kept as
//! parts: the store names only what is whole, and what they name was not fetched. Nothing is asked for
//! faster than it is read.
//!
//! # How a message goes
//!
//! `Peer::send` puts a value into the queue for its peer and protocol at the call itself, and resolves
//! when the other side's app has taken it ([`messaging::direct`]). One task owns a pure link for each
//! peer and protocol, which says what goes out on which stream and when again: a stream, a connection
//! or a relay may fail in between, and nothing is lost, doubled or overtaken by it. What cannot be
//! delivered fails with its reason, and so does all behind it. `Peer::start` gives what comes: a
//! message is acknowledged when it is handed to the app, the next of the same peer is handed on when
//! the app is done with it, those of others meanwhile. In a browser `js` calls the page's function
//! for each, and awaits what that returns.
//!
//! # How a tab stays connected
//!
//! Pure keepers decide whom to dial when: [`network::relay_keeper`] for the relays,
//! [`network::peer_keeper`] for the peers that the app named; [`network::water_marks`] whom to close.
//! Tabs of one origin, natively peers of the local network, are found without being named
//! ([`platform::nearby`]); [`network::nearby_keeper`] says when to dial them.
//! The page's events (`js::life`), and a gap in the time of day ([`network::awake`]), nudge the event
//! loop: what waits is dialled, what stands is probed with a ping, and closed if it does not answer.
//! What changes is told by watches, which hold the latest state and no more; `Peer::changes` makes
//! events of them.
//!
//! # How peers find each other
//!
//! A relay names its clients to each other. Who is elsewhere is found through the DHT: this peer is a
//! client of it, [`network::dht::bootstrap`] says when it can be asked, and what is asked before waits.
//! Each topic that is subscribed to is advertised there, and this peer itself, so that others learn where
//! it is; the pure [`network::topic_keeper`] says when, and when to look for others. And peers on a topic
//! who know others at another relay tell them of each other ([`messaging::topics::introductions`]). Who is
//! named by such words is dialled, few at a time and not again soon; nothing else is believed of them.
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

pub mod boxmap;
pub mod config;
pub mod content;
pub mod error;
pub mod exchange;
#[cfg(target_family = "wasm")]
mod js;
pub mod messaging;
pub mod network;
pub mod peer;
pub mod platform;
mod random;
pub mod store;
