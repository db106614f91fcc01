//! Through a relay's circuit: talking, and going on talking when the relay dies and comes back.

use futures::future;
use tabpeer::{
    messaging::direct::{DirectMessages, Incoming, Value},
    platform::time::{self, Instant},
};
use tokio::sync::watch;

use crate::{
    CHAT, Node, PATIENCE, json, next,
    support::{by_websocket, relay, relay_again},
    talk,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_talk_through_a_relay() {
    let (relay, _data) = relay().await;
    let relays = by_websocket(&relay);
    let (a, b) = future::join(Node::at(relays.clone()), Node::at(relays)).await;
    talk(&a, &b, 100).await;
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    let taking = tokio::spawn(async move { while at_b.next().await.is_some() {} });
    let mut times = Vec::new();
    for n in 0..50 {
        let started = Instant::now();
        a.send(&b, json(n)).await.expect("acknowledged");
        times.push(started.elapsed());
    }
    times.sort();
    println!("round trip through the relay: p50 {:?}, p90 {:?}", times[25], times[45]);
    let text = Value::Json(format!("\"{}\"", "x".repeat(1022)));
    let started = Instant::now();
    let many = future::join_all((0..1000).map(|_| a.send(&b, text.clone()))).await;
    assert!(many.iter().all(Result::is_ok));
    println!("1 KiB through the relay: {:.0} messages/s", 1000. / started.elapsed().as_secs_f64());
    tokio::join!(a.network.close(), b.network.close());
    taking.await.expect("ends");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_outlives_its_relay() {
    let (first, data) = relay().await;
    let relays = by_websocket(&first);
    let (a, b) = future::join(Node::at(relays.clone()), Node::at(relays.clone())).await;
    let at_a = a.direct.start(CHAT).await.expect("starts");
    let at_b = b.direct.start(CHAT).await.expect("starts");
    let (a_took, b_took) = (tokio::spawn(collect(at_a)), tokio::spawn(collect(at_b)));
    let (a_tells, mut a_told) = watch::channel(Told::default());
    let (b_tells, mut b_told) = watch::channel(Told::default());
    let breaking = async {
        for told in [&mut a_told, &mut b_told] {
            told.wait_for(|told| told.acknowledged >= 10).await.expect("it goes on");
        }
        first.stop().await;
        for told in [&mut a_told, &mut b_told] {
            told.wait_for(|told| told.failed > 0).await.expect("it goes on");
        }
        let second = relay_again(data.path(), &relays).await;
        a.network.nudge();
        b.network.nudge();
        second
    };
    let (second, by_a, by_b) =
        tokio::join!(breaking, insist(&a, &b, &a_tells), insist(&b, &a, &b_tells));
    tokio::join!(a.network.close(), b.network.close());
    for (took, messages) in [(a_took, by_b), (b_took, by_a)] {
        let mut took = took.await.expect("ends");
        // A send that failed may have arrived: its repetition is a message of its own.
        assert!(took.is_sorted(), "{took:?}");
        took.dedup();
        let numbers: Vec<usize> = took.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, (0..messages).collect::<Vec<_>>());
    }
    second.stop().await;
}

/// What became of somebody's sends.
#[derive(Default)]
struct Told {
    acknowledged: usize,
    failed: usize,
}

/// Sends until it is acknowledged, message after message, until that has failed and then worked
/// again; how many messages.
async fn insist(from: &Node, to: &Node, tell: &watch::Sender<Told>) -> usize {
    let (mut status, started) = (from.network.status(), Instant::now());
    let (mut n, mut after) = (0, 0);
    while after < 20 {
        while from.send(to, json(n)).await.is_err() {
            assert!(started.elapsed() < 2 * PATIENCE, "it does not come back");
            tell.send_modify(|told| told.failed += 1);
            let online = time::timeout(PATIENCE, status.wait_for(|status| status.online())).await;
            online.expect("it comes back").expect("open");
        }
        tell.send_modify(|told| told.acknowledged += 1);
        after += usize::from(tell.borrow().failed > 0);
        n += 1;
    }
    n
}

/// Everything that comes until the end, with its number.
async fn collect(mut incoming: Incoming) -> Vec<(usize, String)> {
    let mut took = Vec::new();
    while let Some(message) = incoming.next().await {
        let Value::Json(text) = &message.value else { continue };
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        took.push((value["n"].as_u64().expect("a number") as usize, text.clone()));
    }
    took
}

/// A page that is reloaded: another life of the same peer, and messages from before come to it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_before_a_reload_comes_after_it() {
    let (relay, _data) = relay().await;
    let relays = by_websocket(&relay);
    let (a, b) = future::join(Node::at(relays.clone()), Node::at(relays)).await;
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    // In one task, which makes their order.
    let sends = future::join_all((0..5).map(|n| crate::sending(&a, &b, n)));
    let sends = tokio::spawn(sends);
    let first = next(&mut at_b).await;
    assert_eq!(first.value, json(0));
    let network = b.network.clone();
    drop((first, at_b, b.direct));
    let direct = DirectMessages::new(std::sync::Arc::new(network));
    let mut at_b = direct.start(CHAT).await.expect("starts");
    // The ack of the first may be on its way still, or lost with the page.
    let mut message = next(&mut at_b).await.value;
    if message == json(0) {
        message = next(&mut at_b).await.value;
    }
    assert_eq!(message, json(1));
    for n in 2..5 {
        assert_eq!(next(&mut at_b).await.value, json(n));
    }
    let sent = time::timeout(PATIENCE, sends).await.expect("ends").expect("no panic");
    assert_eq!(sent, vec![Ok(()); 5]);
    tokio::join!(a.network.close(), b.network.close());
    relay.stop().await;
}
