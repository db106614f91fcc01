//! Apps that do not take their messages: those who send hear of it, nobody else does, and what waits
//! is bounded.

use futures::future;
use tabpeer::{
    messaging::direct::{DirectError, MAX_QUEUED, MAX_UNTAKEN_BYTES, MAX_VALUE, Value},
    platform::time::{self, Duration, Instant},
};

use crate::{CHAT, Node, PATIENCE, json, next, support::noise, values};

/// Twenty seconds: three attempts of five, and the waits between.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_holds_up_nobody_else() {
    let nodes = future::join_all((0..3).map(|_| Node::listening())).await;
    let [a, b, victim] = nodes.try_into().unwrap_or_else(|_| panic!("three"));
    a.dial(&victim).await;
    b.dial(&victim).await;
    let mut stuck = victim.direct.start(CHAT).await.expect("starts");
    let mut fine = victim.direct.start("/test/fine").await.expect("starts");
    let first = tokio::spawn(crate::sending(&a, &victim, 0));
    // The handler has it, for ever.
    let _held = next(&mut stuck).await;
    assert_eq!(first.await.expect("no panic"), Ok(()));
    let flood = future::join_all((1..=MAX_QUEUED + 100).map(|n| a.send(&victim, json(n))));
    let others = async {
        for n in 0..100 {
            let started = Instant::now();
            let (sent, value) = future::join(b.send(&victim, json(n)), values(&mut stuck, 1)).await;
            assert_eq!((sent, value), (Ok(()), vec![json(n)]));
            let sending = a.direct.send(victim.id(), "/test/fine", json(n));
            let (sent, value) = future::join(sending, values(&mut fine, 1)).await;
            assert_eq!((sent, value), (Ok(()), vec![json(n)]));
            assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        }
    };
    let (flood, ()) = future::join(flood, others).await;
    let busy = flood.iter().filter(|o| matches!(o, Err(DirectError::Busy { .. }))).count();
    let refused = |o: &&Result<(), DirectError>| {
        matches!(o, Err(DirectError::Unacknowledged { attempts: 3, .. }))
    };
    let unacknowledged = flood.iter().filter(refused).count();
    assert_eq!((busy, unacknowledged), (100, MAX_QUEUED), "{:?}", flood.first());
    tokio::join!(a.network.close(), b.network.close(), victim.network.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_that_nobody_takes_wait_at_their_sender() {
    let (a, b) = crate::two().await;
    let mut at_b = b.direct.start(CHAT).await.expect("starts");
    let large = Value::Bytes(noise(MAX_VALUE, 5));
    let sends = future::join_all((0..20).map(|_| a.send(&b, large.clone())));
    let mut sends = std::pin::pin!(sends);
    assert!(time::timeout(Duration::from_secs(1), &mut sends).await.is_err(), "nobody took any");
    let came = async {
        let mut came = 0;
        while let Ok(Some(message)) = time::timeout(Duration::from_secs(2), at_b.next()).await {
            assert!(message.value == large);
            came += 1;
        }
        came
    };
    let (sent, came) = time::timeout(PATIENCE, future::join(sends, came)).await.expect("ends");
    let acknowledged = sent.iter().filter(|outcome| outcome.is_ok()).count();
    let busy = sent.iter().filter(|o| matches!(o, Err(DirectError::Busy { .. }))).count();
    // The queue of one peer holds so many frames and no more.
    assert_eq!((acknowledged, acknowledged + busy), (came, 20));
    assert!(acknowledged >= MAX_UNTAKEN_BYTES / MAX_VALUE && busy > 0, "{acknowledged} {busy}");
    tokio::join!(a.network.close(), b.network.close());
}
