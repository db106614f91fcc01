//! Settings of a peer.
