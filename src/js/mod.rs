//! What the npm package exports. Wasm only.
