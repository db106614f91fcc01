//! What the npm package exports, in three parts: the client ([`client`]), arguments coming in
//! ([`arguments`]), and bytes and failures going out. `index.js` wraps it, `index.d.ts` documents it.
//!
//! Every exported method clones the peer's handle and returns a Promise: nothing of an exported
//! object stays borrowed while JS runs, so `close()` and `free()` during a call are safe.

mod arguments;
#[cfg(feature = "bench")]
mod bench;
mod client;
mod connections;
mod content;
mod download;
mod failure;
mod file;
mod life;
