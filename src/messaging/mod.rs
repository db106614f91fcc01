//! What peers say to each other: messages from one to another ([`direct`]), to everybody on a topic
//! ([`topics`]), and of new content to those whom a topic does not reach ([`availability`]).

pub mod availability;
pub mod direct;
pub mod topics;
