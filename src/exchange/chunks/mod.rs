//! Downloads of a file's chunks from several peers at once.

pub mod coordinator;
