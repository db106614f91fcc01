//! The asking side, pure: which peer is asked for which block, and when another is.
