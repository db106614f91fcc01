//! futures-timer as libp2p finds it here (`[patch.crates-io]`): in wasm all delays share one timer of
//! the browser's, and one that is not waited for costs nothing.
//!
//! The crate sets a timer of the browser's when a `Delay` is made and takes it back when it is
//! dropped, with a closure, a channel and two calls into the page. gossipsub makes one for every
//! message and neighbour, looks at it once and drops it: that was 45 to 60 µs of each message.
//! Natively it hands on the line before, 2.x, which has a thread for them: cargo allows one version of
//! a line, and this crate is that of 3.x.

#[cfg(not(target_family = "wasm"))]
pub use native::Delay;
#[cfg(target_family = "wasm")]
pub use wasm::Delay;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;
