//! Finding providers through delegated routing over HTTP.
