//! A relay that also answers `/tabpeer/bench/raw/1.0.0`: the plain stream beside which `cargo xtask bench transfer`
//! puts the transfer of content. It takes the flags that the benches and tests give to the relay, and prints its line.
//!
//! A request is eight bytes, the number of bytes wanted (big endian). That many zeros follow, then the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::multiaddr::Multiaddr;
use tabpeer::network::Stream;
use tabpeer_relay::{Relay, RelayConfig};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/tabpeer/bench/raw/1.0.0");
/// Written at a time.
const PIECE: usize = 256 * 1024;
/// Most that one request gets.
const MAX_BYTES: u64 = 1 << 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let relay = Relay::start(config()?).await?;
    let mut streams = relay.streams().accept(PROTOCOL).await?;
    let addresses: Vec<_> = relay.addresses().iter().map(ToString::to_string).collect();
    let line = serde_json::json!({
        "ready": true,
        "peerId": relay.peer_id().to_string(),
        "http": format!("http://{}", relay.http_addr()),
        "addresses": addresses,
    });
    println!("{line}");
    while let Some((_, stream)) = streams.next().await {
        tokio::spawn(async move {
            // Whoever asked goes away when it likes.
            let _ = answer(stream).await;
        });
    }
    Ok(())
}

async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted).await?;
    let mut left = u64::from_be_bytes(wanted).min(MAX_BYTES);
    let piece = vec![0; PIECE];
    while left > 0 {
        let len = left.min(PIECE as u64);
        stream.write_all(&piece[..len as usize]).await?;
        left -= len;
    }
    stream.close().await
}

fn config() -> Result<RelayConfig, Box<dyn std::error::Error>> {
    let mut config = RelayConfig { listen: Vec::new(), ..RelayConfig::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} has no value"))?;
        match flag.as_str() {
            // Of the file, what the flags after it do not say otherwise.
            "--config" => {
                let file = RelayConfig::from_toml_file(Path::new(&value))?;
                config = RelayConfig { listen: Vec::new(), ..file };
            }
            "--data-dir" => config.data_dir = PathBuf::from(value),
            "--site" => config.http.site = Some(PathBuf::from(value)),
            "--http" => config.http.listen = value.parse::<SocketAddr>()?,
            "--listen" => config.listen.push(value.parse::<Multiaddr>()?),
            _ => return Err(format!("no flag {flag}").into()),
        }
    }
    Ok(config)
}
