//! Direct messages between native peers on this machine, for real: TCP, circuits, hostile peers,
//! breaking relays.
#![cfg(not(target_family = "wasm"))]

mod hostile;
mod peers;
mod relayed;
mod trouble;

#[path = "../support/mod.rs"]
mod support;

use futures::{FutureExt as _, future};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tabpeer::{
    messaging::direct::{DirectError, DirectMessages, Incoming, MAX_VALUE, Message, Value},
    network::{Network, RelaySpec},
    platform::time::{self, Duration},
};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);
const CHAT: &str = "/test/chat/1";

struct Node {
    network: Network,
    direct: DirectMessages,
    address: Option<Multiaddr>,
}

impl Node {
    /// Reachable by TCP.
    async fn listening() -> Self {
        Self::start(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await
    }

    /// Reachable through a relay only.
    async fn at(relays: Vec<RelaySpec>) -> Self {
        Self::start(relays, &[]).await
    }

    async fn start(relays: Vec<RelaySpec>, listen: &[&str]) -> Self {
        let network = support::network(relays, listen).await;
        let address = network.status().current().listen_addresses.first().cloned();
        let direct = DirectMessages::new(std::sync::Arc::new(network.clone()));
        Self { network, direct, address }
    }

    fn id(&self) -> PeerId {
        self.network.peer_id()
    }

    async fn dial(&self, other: &Self) {
        let address = other.address.clone().expect("it listens");
        self.network.dial(address).await.expect("connects");
    }

    async fn send(&self, to: &Self, value: Value) -> Result<(), DirectError> {
        time::timeout(PATIENCE, self.direct.send(to.id(), CHAT, value)).await.expect("an outcome")
    }
}

/// Connected by TCP.
async fn two() -> (Node, Node) {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    a.dial(&b).await;
    (a, b)
}

async fn next(incoming: &mut Incoming) -> Message {
    time::timeout(PATIENCE, incoming.next()).await.expect("in time").expect("started")
}

/// The values of the next messages.
async fn values(incoming: &mut Incoming, count: usize) -> Vec<Value> {
    let mut values = Vec::new();
    while values.len() < count {
        values.push(next(incoming).await.value);
    }
    values
}

fn json(n: usize) -> Value {
    Value::Json(format!("{{\"n\":{n}}}"))
}

/// JSON and bytes, small and large.
fn value(n: usize) -> Value {
    match n % 10 {
        0 => Value::Bytes(support::noise(n * 300, n as u64)),
        1 => Value::Json(format!("\"{}\"", "ü".repeat(n * 30))),
        _ => json(n),
    }
}

/// Both send at once; everything arrives in order and is acknowledged.
async fn talk(a: &Node, b: &Node, count: usize) {
    let mut at_a = a.direct.start(CHAT).await.expect("starts");
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    let there = future::join_all((0..count).map(|n| a.send(b, value(n))));
    let back = future::join_all((0..count).map(|n| b.send(a, value(n))));
    let sent = async {
        let sent = future::join(there, back).await;
        assert!(sent.0.iter().chain(&sent.1).all(Result::is_ok), "{sent:?}");
    };
    let ((), from_a, from_b) =
        tokio::join!(sent, values(&mut at_b, count), values(&mut at_a, count));
    let expected: Vec<Value> = (0..count).map(value).collect();
    assert!(from_a == expected && from_b == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_talk_directly() {
    let (a, b) = two().await;
    talk(&a, &b, 300).await;
    // Again: what was dropped can be started again at once.
    talk(&b, &a, 20).await;
    let largest = Value::Bytes(support::noise(MAX_VALUE, 1));
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    let sending = future::join_all((0..5).map(|_| a.send(&b, largest.clone())));
    let (sent, came) = future::join(sending, values(&mut at_b, 5)).await;
    assert!(sent.iter().all(Result::is_ok) && came.iter().all(|value| *value == largest));
    assert!(at_b.next().now_or_never().is_none());
    tokio::join!(a.network.close(), b.network.close());
    assert!(at_b.next().await.is_none());
    assert_eq!(a.send(&b, json(1)).await, Err(DirectError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_or_started_is_refused_by_name() {
    let (a, b) = two().await;
    let is = |error: Result<(), DirectError>, code: &str| {
        assert!(format!("{error:?}").starts_with(&format!("Err({code}")), "{error:?}");
    };
    is(a.send(&b, Value::Json("{".into())).await, "NotJson");
    is(a.send(&b, Value::Bytes(vec![0; MAX_VALUE + 1].into())).await, "TooLarge");
    for name in ["", "/", "a\nb", &"x".repeat(200)] {
        is(a.direct.send(b.id(), name, json(1)).await, "BadProtocol");
        is(a.direct.start(name).await.map(drop), "BadProtocol");
    }
    let first = a.direct.start("chat").await.expect("starts");
    is(a.direct.start("/chat").await.map(drop), "AlreadyStarted");
    drop(first);
    let mut again = a.direct.start("/chat").await.expect("starts");
    a.direct.stop("chat");
    assert!(again.next().await.is_none());
    let _third = a.direct.start("chat").await.expect("starts");
    drop(again);
    is(a.direct.start("chat").await.map(drop), "AlreadyStarted");
    let many = future::join_all((0..64).map(|n| {
        let (direct, name) = (b.direct.clone(), format!("/many/{n}"));
        async move { direct.start(&name).await }
    }));
    assert!(many.await.iter().any(|one| matches!(one, Err(DirectError::Busy { .. }))));
    tokio::join!(a.network.close(), b.network.close());
}

/// Six seconds: three attempts.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_or_does_not_exist_is_told_apart() {
    let (a, b) = two().await;
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let unstarted = a.direct.send(b.id(), "/nobody/home", json(1));
    let unknown = a.direct.send(nobody, CHAT, json(1));
    let itself = a.direct.send(a.id(), CHAT, json(1));
    let late = async {
        let mut sending = std::pin::pin!(a.send(&b, json(7)));
        // The first attempt comes too early.
        assert!(time::timeout(Duration::from_millis(500), &mut sending).await.is_err());
        let mut at_b = b.direct.start(CHAT).await.expect("starts");
        let (sent, value) = tokio::join!(sending, values(&mut at_b, 1));
        (sent, value)
    };
    let (unstarted, unknown, itself, late) =
        time::timeout(PATIENCE, async { tokio::join!(unstarted, unknown, itself, late) })
            .await
            .expect("outcomes");
    assert!(matches!(unstarted, Err(DirectError::Unsupported { peer, .. }) if peer == b.id()));
    assert!(matches!(unknown, Err(DirectError::Unreachable { peer, .. }) if peer == nobody));
    assert!(matches!(itself, Err(DirectError::Unreachable { .. })), "{itself:?}");
    assert_eq!(late, (Ok(()), vec![json(7)]));
    tokio::join!(a.network.close(), b.network.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_dropped_is_taken_back() {
    let (a, b) = two().await;
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    // Nothing is taken at first: the window fills up and the rest waits.
    let held: Vec<_> = (0..40).map(|n| tokio::spawn(sending(&a, &b, n))).collect();
    let first = next(&mut at_b).await;
    let dropped = a.send(&b, json(1000));
    assert!(dropped.now_or_never().is_none());
    let mut last = tokio::spawn(sending(&a, &b, 41));
    drop(first);
    let mut came = Vec::new();
    let outcome = loop {
        tokio::select! {
            message = at_b.next() => came.push(message.expect("started").value),
            outcome = &mut last => break outcome,
        }
    };
    assert_eq!(outcome.expect("no panic"), Ok(()));
    assert!(came.len() >= 40 && !came.contains(&json(1000)), "{came:?}");
    for send in held {
        assert_eq!(send.await.expect("no panic"), Ok(()));
    }
    tokio::join!(a.network.close(), b.network.close());
}

fn sending(
    from: &Node,
    to: &Node,
    n: usize,
) -> impl Future<Output = Result<(), DirectError>> + use<> {
    let (direct, to) = (from.direct.clone(), to.id());
    async move { direct.send(to, CHAT, json(n)).await }
}
