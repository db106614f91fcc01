//! A file as a gateway has it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tabpeer::content::{
    block::{Block, Cid},
    car::{car_header, car_section},
    import::import_bytes,
    layout::Layout,
};
use tokio::net::TcpStream;

use crate::http::{Request, respond};

pub const RAW_BLOCK: &str = "content-type: application/vnd.ipld.raw\r\n";

/// A file in blocks of 1 KiB under a tree of three levels.
#[derive(Clone)]
pub struct File {
    pub bytes: Bytes,
    pub root: Cid,
    /// In the order of a CAR: each node before what is below it.
    pub order: Arc<Vec<Block>>,
}

impl File {
    pub fn new(len: usize) -> Self {
        Self::with_chunks(len, 1 << 10)
    }

    pub fn with_chunks(len: usize, chunk: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let bytes: Vec<u8> = words.flatten().take(len).collect();
        let layout = Layout::new(chunk, 8, cid::Version::V1, true).expect("valid");
        let (blocks, root) = import_bytes(layout, &bytes);
        let by_cid: BTreeMap<Cid, Block> =
            blocks.into_iter().map(|block| (*block.cid(), block)).collect();
        let (mut order, mut next, mut seen) = (Vec::new(), vec![root.cid], Vec::new());
        while let Some(cid) = next.pop() {
            if !seen.contains(&cid) {
                seen.push(cid);
                let block = by_cid[&cid].clone();
                next.extend(block.links().expect("dag-pb").into_iter().rev());
                order.push(block);
            }
        }
        Self { bytes: bytes.into(), root: root.cid, order: Arc::new(order) }
    }

    pub fn car(&self) -> Vec<u8> {
        let mut car = car_header(&[self.root]).to_vec();
        self.order.iter().flat_map(car_section).for_each(|part| car.extend_from_slice(&part));
        car
    }

    fn block(&self, path: &str) -> Option<Block> {
        let cid = path.strip_prefix("/ipfs/")?.strip_suffix("?format=raw")?.parse().ok()?;
        self.order.iter().find(|block| *block.cid() == cid).cloned()
    }

    pub async fn answer_raw(&self, request: &Request, stream: TcpStream) {
        match self.block(&request.path) {
            Some(block) => respond(stream, 200, RAW_BLOCK, block.data()).await,
            None => respond(stream, 404, "", b"").await,
        }
    }
}
