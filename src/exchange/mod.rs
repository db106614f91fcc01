//! Getting content from other peers: pure cores, and thin drivers over the network.

pub mod webapp;
