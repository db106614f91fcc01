//! The answering side, pure: who gets which block next.
