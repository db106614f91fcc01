//! Who is asked, in which order, and what the caller hears if nobody has it.

use std::{sync::Arc, time::Duration};

use tabpeer::{
    exchange::{
        config::ExchangeConfig,
        fetch::{SourceKind, Strategy},
    },
    peer::{Content, GetOptions},
    platform::memory::MemoryDatabases,
};

use super::script::{Script, collect, file, peer_configured, peer_with};
use super::support::noise;

#[tokio::test]
async fn sources_are_asked_in_order_and_the_first_that_has_it_stays_first() {
    let bytes = noise(300_000, 1);
    let (blocks, root) = file(&bytes, 10_000);
    let peers = Script::new(SourceKind::Peers, "peers", &[]);
    let network = Script::new(SourceKind::Network, "network", &[]);
    let relay = Script::new(SourceKind::Relay, "relay", &blocks);
    let gateway = Script::new(SourceKind::Gateway, "gateway", &blocks);
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&gateway, &network, &relay, &peers]).await;
    let Ok(Content::File(info)) = peer.get_file(root, None, GetOptions::default()).await else {
        panic!("a file");
    };
    assert_eq!((info.size, info.cid), (300_000, root));
    assert_eq!(collect(peer.read(root)).await.expect("kept"), bytes);
    for asked in [&peers, &network] {
        assert_eq!(asked.asked(), [root], "asked once, then the one that has it");
    }
    assert_eq!(relay.asked().len(), blocks.len(), "each block once");
    assert!(gateway.asked().is_empty());
    // Found here now.
    peer.get_file(root, None, GetOptions::default()).await.expect("here");
    assert_eq!(relay.asked().len(), blocks.len());
    assert_eq!(relay.get(|state| (state.opened, state.closed)), (1, 1));
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test]
async fn two_of_a_stage_are_asked_together_and_the_loser_is_told_to_stop() {
    let (blocks, root) = file(&noise(100, 1), 1000);
    let slow = Script::new(SourceKind::Gateway, "slow", &blocks);
    slow.set(|state| state.silent = true);
    let fast = Script::new(SourceKind::Gateway, "fast", &blocks);
    let peer = peer_with(&Arc::default(), &[&slow, &fast]).await;
    peer.get_file(root, None, GetOptions::default()).await.expect("found");
    assert_eq!((slow.asked(), fast.asked()), (vec![root], vec![root]));
    assert_eq!(
        (slow.get(|s| s.cancelled.clone()), fast.get(|s| s.cancelled.clone())),
        (vec![root], vec![])
    );
    peer.close().await;
}

#[tokio::test]
async fn an_error_names_all_that_were_asked_and_why_they_failed() {
    let (_, root) = file(&noise(100, 1), 1000);
    let network = Script::new(SourceKind::Network, "the network", &[]);
    let gateway = Script::new(SourceKind::Gateway, "gateway g", &[]);
    gateway.set(|state| (state.dies, state.allowance) = (true, Some(0)));
    let peer = peer_with(&Arc::default(), &[&network, &gateway]).await;
    let error = peer.get_file(root, None, GetOptions::default()).await.expect_err("nobody");
    assert_eq!(error.code(), "NOT_FOUND");
    let text = error.to_string();
    for part in [&root.to_string(), "the network: it has it not", "gateway g: it died"] {
        assert!(text.contains(part), "{text} says {part}");
    }
    // Only those that the caller wants, in its order.
    let (blocks, root) = file(&noise(100, 2), 1000);
    gateway.set(|state| {
        (state.dies, state.allowance, state.blocks) =
            (false, None, [(root, blocks[0].clone())].into())
    });
    let asked = network.asked().len();
    let sources = vec![SourceKind::Gateway, SourceKind::Network];
    let options = GetOptions {
        sources,
        ttl: Some(3),
        requester: Some("did:key:z".into()),
        ..GetOptions::default()
    };
    peer.get_file(root, None, options).await.expect("found");
    assert_eq!(network.asked().len(), asked);
    let request = gateway.get(|state| state.requests.last().cloned()).expect("opened");
    assert_eq!((request.ttl, request.requester.as_deref()), (Some(3), Some("did:key:z")));
    peer.close().await;
}

#[tokio::test]
async fn privacy_asks_neither_network_nor_gateways() {
    let (blocks, root) = file(&noise(100, 1), 1000);
    let scripts = [SourceKind::Network, SourceKind::Relay, SourceKind::Gateway]
        .map(|kind| Script::new(kind, "public", &blocks));
    let config = ExchangeConfig { strategy: Strategy::PrivacyFirst, ..ExchangeConfig::default() };
    let peer = peer_configured(&Arc::default(), &scripts.each_ref(), config).await;
    let error = peer.get_file(root, None, GetOptions::default()).await.expect_err("not asked");
    assert_eq!(error.code(), "NOT_FOUND");
    assert!(scripts.iter().all(|script| script.asked().is_empty()));
    peer.close().await;
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_names_of_the_silent() {
    let (blocks, root) = file(&noise(100, 1), 1000);
    let silent = Script::new(SourceKind::Network, "the silent one", &blocks);
    silent.set(|state| state.silent = true);
    let gateway = Script::new(SourceKind::Gateway, "gateway", &[]);
    let peer = peer_with(&Arc::default(), &[&silent, &gateway]).await;

    let options = GetOptions { timeout: Some(Duration::from_secs(10)), ..GetOptions::default() };
    let error = peer.get_file(root, None, options).await.expect_err("late");
    assert_eq!(error.code(), "TIMEOUT");
    let text = error.to_string();
    assert!(
        text.contains("the silent one: no answer") && text.contains("gateway: it has it not"),
        "{text}"
    );

    let source_timeout = Some(Duration::from_secs(5));
    let options = GetOptions { source_timeout, ..GetOptions::default() };
    let error = peer.get_file(root, None, options).await.expect_err("nobody");
    assert_eq!(error.code(), "NOT_FOUND");
    assert!(error.to_string().contains("the silent one: nothing came for 5 s"), "{error}");

    // Patience is enough to go on to somebody who has it.
    gateway.set(|state| state.blocks = [(root, blocks[0].clone())].into());
    peer.get_file(root, None, GetOptions::default()).await.expect("found");
    peer.close().await;
}
