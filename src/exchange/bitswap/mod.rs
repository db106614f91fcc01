//! Bitswap 1.2.0: blocks from and for other peers. The codec, the client and the server are pure; the
//! driver runs them over libp2p streams.

pub mod client;
pub mod message;
pub mod server;
