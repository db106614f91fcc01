//! Getting content from other peers: pure cores, and thin drivers over the network.

pub mod answers;
pub mod bitswap;
pub mod capabilities;
pub mod cas;
pub mod chunks;
pub mod config;
pub mod fetch;
pub mod gateway;
pub mod routing;
pub mod webapp;
