//! The chain of sources: where content is looked for, in which order, and when to go on.

pub mod source;
