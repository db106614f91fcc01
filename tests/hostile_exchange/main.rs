//! Peers that lie, flood and fall silent, and content that is made to hurt: the fetch ends with a
//! reason or well, others go on meanwhile, memory stays flat, and nothing is half written.
#![cfg(not(target_family = "wasm"))]

mod content;
mod evil;
#[path = "../exchange/node.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod node;
mod providers;
#[path = "../fetch/script.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod script;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);
