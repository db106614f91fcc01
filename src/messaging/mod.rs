//! What peers say to each other: messages from one to another ([`direct`]).

pub mod direct;
