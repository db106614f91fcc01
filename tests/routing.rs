//! Delegated routers, good and bad.
#![cfg(not(target_family = "wasm"))]

#[path = "support/http.rs"]
mod http;

use http::{Server, head};
use libp2p::PeerId;
use tabpeer::{
    content::block::Cid,
    exchange::{
        gateway::GatewayUrl,
        routing::{MAX_ANSWER, MAX_PROVIDERS, providers},
    },
    platform::Dialer,
};
use tokio::io::AsyncWriteExt as _;

const JSON: &str = "content-type: application/json\r\n";
const LINES: &str = "content-type: application/x-ndjson\r\n";

fn cid() -> Cid {
    "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e".parse().expect("a CID")
}

fn url(server: &Server) -> GatewayUrl {
    server.url().parse().expect("a URL")
}

fn record(peer: PeerId) -> String {
    format!(r#"{{"Schema":"peer","ID":"{peer}","Addrs":["/ip4/127.0.0.1/tcp/1"],"Protocols":[]}}"#)
}

#[tokio::test(start_paused = true)]
async fn one_router_that_answers_is_enough() {
    let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
    let json = format!(r#"{{"Providers":[{},{}]}}"#, record(peers[0]), record(peers[1]));
    let good = Server::always(200, JSON, json).await;
    let lines = format!("{}\n{}\n", record(peers[1]), record(peers[2]));
    let other = Server::always(200, LINES, lines).await;
    let page = Server::always(200, "content-type: text/html\r\n", "<html>no</html>").await;
    let down = Server::always(503, "", "").await;
    let away = Server::always(302, "location: http://elsewhere.invalid/\r\n", "").await;
    let none = Server::always(404, "", "no providers").await;
    let routers: Vec<GatewayUrl> =
        [&page, &good, &down, &other, &away, &none].into_iter().map(url).collect();
    let found = providers(&routers, &cid(), Dialer::Native).await.expect("providers");
    assert_eq!(found.iter().map(|found| found.peer).collect::<Vec<_>>(), peers);
    assert!(found.iter().all(|found| found.addresses.len() == 1));
    let [request] = &good.requests()[..] else { panic!("one request") };
    let path = format!(
        "/routing/v1/providers/{}?filter-addrs=tcp,ws,wss,tls,unknown&filter-protocols=transport-bitswap,unknown",
        cid()
    );
    assert_eq!(request.path, path);
    assert!(request.headers.contains("accept: application/x-ndjson"));

    let error = providers(&[url(&page), url(&down), url(&away)], &cid(), Dialer::Native).await;
    let text = error.expect_err("nobody answers").to_string();
    for router in [&page, &down, &away] {
        assert!(text.contains(&router.url()), "{text}");
    }
    assert_eq!(providers(&[url(&none)], &cid(), Dialer::Native).await, Ok(Vec::new()));
    assert_eq!(providers(&[], &cid(), Dialer::Native).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_end_is_read_as_far_as_it_is_of_use() {
    let server = Server::start(|_, mut stream| {
        Box::pin(async move {
            head(&mut stream, 200, LINES).await;
            while stream
                .write_all(format!("{}\n", record(PeerId::random())).as_bytes())
                .await
                .is_ok()
            {}
        })
    })
    .await;
    let found = providers(&[url(&server)], &cid(), Dialer::Native).await.expect("providers");
    assert_eq!(found.len(), MAX_PROVIDERS);
    let server = Server::always(200, JSON, vec![b'['; MAX_ANSWER * 4]).await;
    assert!(providers(&[url(&server)], &cid(), Dialer::Native).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_router_broke_off_counts() {
    let peer = PeerId::random();
    let server = Server::start(move |_, mut stream| {
        Box::pin(async move {
            head(&mut stream, 200, &format!("{LINES}content-length: 100000\r\n")).await;
            let _ = stream.write_all(format!("{}\n{{\"ID\":", record(peer)).as_bytes()).await;
        })
    })
    .await;
    let found = providers(&[url(&server)], &cid(), Dialer::Native).await;
    assert_eq!(found.map(|found| found.iter().map(|found| found.peer).collect()), Ok(vec![peer]));
}
