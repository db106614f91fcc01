//! The peer: the whole API in plain Rust.
