//! ed25519-dalek as libp2p finds it here (`[patch.crates-io]`): in wasm without the tables of
//! multiples of the base point, and on the curve25519-dalek that snow, Noise's own crate, brings.
//!
//! The tables are 40 KB that no compression makes smaller. libp2p takes the crate with its default
//! features, and a feature cannot be taken back; so this crate stands in. What it hands on is the
//! line before, 2.x: cargo allows one version of a line, and this crate is that of 3.x.

pub use original::*;
