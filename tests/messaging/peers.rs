//! Whole peers: what an app sees.

use tabpeer::{
    error::{Error, Result},
    messaging::direct::{MAX_VALUE, Value},
    peer::{Peer, SendOptions},
    platform::time::{self, Duration},
};

use crate::{
    CHAT, PATIENCE, json, next,
    support::{by_websocket, peer, relay},
    values,
};

async fn send(from: &Peer, to: &Peer, protocol: &str, value: Value) -> Result<()> {
    let sending = from.send(to.peer_id(), protocol, value, SendOptions::default());
    time::timeout(PATIENCE, sending).await.expect("an outcome")
}

fn code(outcome: Result<()>) -> &'static str {
    outcome.err().map_or("none", |error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_talk_and_failures_have_codes() {
    let (relay, _data) = relay().await;
    let (a, b) = tokio::join!(peer(by_websocket(&relay)), peer(by_websocket(&relay)));
    let mut at_b = b.start(CHAT).await.expect("starts");
    // The order is that of the calls, not that of the waiting for them.
    let options = SendOptions::default();
    let first = a.send(b.peer_id(), CHAT, json(1), options.clone());
    let second = a.send(b.peer_id(), CHAT, json(2), options);
    let (second, first, came) = tokio::join!(second, first, values(&mut at_b, 2));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(came, [json(1), json(2)]);

    assert_eq!(code(b.start(CHAT).await.map(drop)), "ALREADY_STARTED");
    assert_eq!(code(b.start("").await.map(drop)), "BAD_ARGUMENT");
    assert_eq!(code(send(&a, &b, "\n", json(1)).await), "BAD_ARGUMENT");
    assert_eq!(code(send(&a, &b, CHAT, Value::Json("{".into())).await), "BAD_ARGUMENT");
    let large = Value::Bytes(vec![0; MAX_VALUE + 1].into());
    assert_eq!(code(send(&a, &b, CHAT, large).await), "TOO_LARGE");
    assert_eq!(code(send(&a, &a, CHAT, json(1)).await), "PEER_UNREACHABLE");
    let after = Duration::from_millis(50);
    let late = a.send(b.peer_id(), "/not/started", json(1), SendOptions { timeout: Some(after) });
    assert!(matches!(late.await, Err(Error::Timeout { .. })));

    // A message that is held keeps the next from coming; who waits for that is told of the close.
    let held = tokio::spawn(a.send(b.peer_id(), CHAT, json(3), SendOptions::default()));
    let message = next(&mut at_b).await;
    assert_eq!(code(held.await.expect("no panic")), "none");
    let waits = tokio::spawn(a.send(b.peer_id(), CHAT, json(4), SendOptions::default()));
    a.close().await;
    assert_eq!(code(waits.await.expect("no panic")), "CLOSED");
    assert_eq!(code(send(&a, &b, CHAT, json(5)).await), "CLOSED");
    assert_eq!(code(a.start(CHAT).await.map(drop)), "CLOSED");
    drop(message);
    b.stop(CHAT).await;
    assert!(at_b.next().await.is_none());
    b.close().await;
    relay.stop().await;
}
