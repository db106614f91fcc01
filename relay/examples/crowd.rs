//! Many peers on one topic in one process, for `cargo xtask bench pubsub`: `crowd RELAY TOPIC COUNT`.
//!
//! Says when all are there, and of each message when the last of them has heard it, by the machine's clock. A message
//! is a page's: eight bytes of time, then its number (big endian). Ends with its input.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::Keypair;
use tabpeer::messaging::direct::Value;
use tabpeer::messaging::topics::TopicEvent;
use tabpeer::network::{Network, NetworkConfig, OnlineOutcome};
use tokio::sync::mpsc;

/// How long one peer may take to reach the relay.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages heard that nobody has counted yet.
const QUEUE: usize = 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [relay, topic, count] = arguments.as_slice() else {
        return Err("crowd RELAY TOPIC COUNT".into());
    };
    let count: usize = count.parse()?;
    let (heard, mut numbers) = mpsc::channel(QUEUE);
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut config = NetworkConfig::new(Keypair::generate_ed25519());
        config.relays = vec![relay.parse()?];
        let peer = Network::start(config)?;
        let outcome = peer.wait_online(PATIENCE).await;
        if !matches!(outcome, OnlineOutcome::Online(_)) {
            return Err(format!("a peer does not reach the relay: {outcome:?}").into());
        }
        peers.push(peer);
    }
    let subscribing = peers.iter().map(|peer| peer.subscribe(topic));
    for subscription in futures::future::try_join_all(subscribing).await? {
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut subscription = subscription;
            while let Some(event) = subscription.next().await {
                if let Some(number) = number(&event)
                    && heard.send((number, unix_ms())).await.is_err()
                {
                    return;
                }
            }
        });
    }
    println!("{}", serde_json::json!({ "ready": true }));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut hearers: BTreeMap<u32, usize> = BTreeMap::new();
    while let Some((number, at)) = numbers.recv().await {
        let hearers = hearers.entry(number).or_default();
        *hearers += 1;
        if *hearers == count {
            println!("{}", serde_json::json!({ "number": number, "at": at }));
        }
    }
    Ok(())
}

/// Of a page's message.
fn number(event: &TopicEvent) -> Option<u32> {
    let TopicEvent::Message { value: Value::Bytes(bytes), .. } = event else { return None };
    Some(u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?))
}

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}
