//! What the npm package exports: the client ([`client`]) and, one module for each area, what it does;
//! arguments coming in ([`arguments`]), bytes and failures going out. `index.js` wraps it,
//! `index.d.ts` documents it.
//!
//! Every exported method that waits clones the peer's handle and returns a Promise: nothing of an exported
//! object stays borrowed while JS runs, so `close()` and `free()` during a call are safe.

mod arguments;
mod availability;
#[cfg(feature = "bench")]
mod bench;
mod client;
mod connections;
mod content;
mod download;
mod failure;
mod file;
mod life;
mod messages;
mod topics;
