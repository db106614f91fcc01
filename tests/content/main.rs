//! Content against the outside world: CIDs that others published, another implementation as an
//! oracle, random trees read back, and bytes that nobody should trust.
//!
//! One binary, as each would link the whole crate again. Native only: the oracle does not build
//! for the browser, and pure code behaves the same in both.
#![cfg(not(target_family = "wasm"))]

mod blocks;
mod golden;
mod hostile;
mod import;
mod read;
