//! What the benches measure beside the package's own functions (`cargo xtask bench transfer`). Only
//! with the feature `bench`, which the package is not built with.

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use js_sys::Promise;
use libp2p::{Multiaddr, StreamProtocol, identity::Keypair};
use wasm_bindgen::{JsError, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;

use crate::{
    network::{Network, NetworkConfig},
    platform::time::Instant,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/tabpeer/bench/raw/1.0.0");
/// What one read may fill.
const READ: usize = 256 << 10;

/// Reads `bytes` bytes that the peer at `address` makes up, over one stream of a connection that is
/// open already when the clock starts. Resolves with the seconds and the number of reads.
#[wasm_bindgen(js_name = rawDownload)]
pub fn raw_download(address: String, bytes: f64) -> Promise {
    future_to_promise(async move {
        measure(&address, bytes as u64).await.map_err(|error| JsError::new(&error).into())
    })
}

async fn measure(address: &str, bytes: u64) -> Result<JsValue, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let address: Multiaddr = address.parse().map_err(|e| text(&e))?;
    let network = Network::start(NetworkConfig::new(Keypair::generate_ed25519()));
    let network = network.map_err(|e| text(&e))?;
    let peer = network.dial(address).await.map_err(|e| text(&e))?;
    let mut stream = network.open_stream(peer, PROTOCOL).await.map_err(|e| text(&e))?;
    let started = Instant::now();
    stream.write_all(&bytes.to_be_bytes()).await.map_err(|e| text(&e))?;
    stream.flush().await.map_err(|e| text(&e))?;
    let mut buffer = vec![0; READ];
    let (mut read, mut reads) = (0_u64, 0_u32);
    while read < bytes {
        match stream.read(&mut buffer).await.map_err(|e| text(&e))? {
            0 => return Err(format!("the stream ended after {read} bytes")),
            len => read += len as u64,
        }
        reads += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    drop(stream);
    network.close().await;
    let result = js_sys::Array::of2(&seconds.into(), &reads.into());
    Ok(result.into())
}
