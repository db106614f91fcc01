//! What peers say to each other: messages from one to another ([`direct`]), and to everybody on a
//! topic ([`topics`]).

pub mod direct;
pub mod topics;
