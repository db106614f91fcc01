//! The request protocol `/cas/1.0.0`.
