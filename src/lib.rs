//! tabpeer

pub mod config;
pub mod content;
pub mod error;
pub mod exchange;
#[cfg(target_family = "wasm")]
mod js;
pub mod network;
pub mod peer;
pub mod platform;
pub mod store;
