//! The DHT of a relay: what one peer announces another finds, and can dial.

use tabpeer::{network::NetworkError, platform::time};

use crate::{
    PATIENCE,
    node::{Node, fetch},
    some_blocks,
    support::{self, by_websocket, network},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_found_and_fetched() {
    let (relay, _data) = support::relay().await;
    let relays = by_websocket(&relay);
    let (a, b) = tokio::join!(Node::at(relays.clone()), Node::at(relays));
    let cids = some_blocks(&a, 3, 5000, 21).await;
    let key = cids[0].hash().to_bytes();
    // The relay is in the routing table once it has said that it serves the DHT.
    let announced = async {
        while let Err(NetworkError::NotAnnounced { .. }) = a.network.provide(key.clone()).await {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, announced).await.expect("announces");
    // An announcement is not answered, so the question may have to be asked again.
    let found = async {
        loop {
            let mut providers = b.network.providers(key.clone(), 5).await.expect("asks");
            if let Some(provider) = providers.next().await {
                return provider;
            }
        }
    };
    let found = time::timeout(PATIENCE, found).await.expect("finds");
    assert_eq!(found, a.network.peer_id());
    b.network.dial(found).await.expect("can be dialled");
    fetch(&b, &cids).await;
    tokio::join!(a.close(), b.close());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dht_nothing_is_found_and_that_is_said() {
    let lonely = network(Vec::new(), &[]).await;
    let key = vec![0x12; 34];
    assert!(matches!(lonely.provide(key.clone()).await, Err(NetworkError::NotAnnounced { .. })));
    let mut providers = lonely.providers(key, 5).await.expect("asks");
    assert_eq!(time::timeout(PATIENCE, providers.next()).await.expect("ends"), None);
    let refused = lonely.providers(vec![0; 1000], 5).await.map(drop);
    assert!(matches!(refused, Err(NetworkError::TooMany { .. })));
    lonely.close().await;
}
