//! Fetching through the chain of sources: in which order they are asked, what is kept of what came, and
//! what a reader gets while it comes. The sources are scripts; the peer around them is whole.
#![cfg(not(target_family = "wasm"))]

mod chain;
mod keeping;
mod peers;
#[path = "../store_conformance/probe.rs"]
mod probe;
mod script;
mod slow;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
