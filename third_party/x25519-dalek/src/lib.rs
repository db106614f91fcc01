//! x25519-dalek as libp2p finds it here (`[patch.crates-io]`): on the curve25519-dalek that snow,
//! Noise's own crate, brings, so that the package carries one of it, with the tables that
//! `third_party/ed25519-dalek` takes. What it hands on is the line before, 2.x: cargo allows one version
//! of a line, and this crate is that of 3.x.

pub use original::*;
