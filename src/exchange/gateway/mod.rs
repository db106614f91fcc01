//! Content from trustless HTTP gateways, verified block by block.
