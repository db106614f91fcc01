//! The web server.

use std::time::SystemTime;

use serde_json::Value;
use tabpeer_relay::Relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{start, start_with};

/// Status, headers in lower case, and body, of exactly the path given: no client library between to clean it up.
pub async fn get(relay: &Relay, path: &str, header: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(relay.http_addr()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(response[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, response[end + 4..].to_vec())
}

#[tokio::test]
async fn the_record_is_signed_and_complete() {
    let (relay, _data) = start().await;
    let (status, head, body) =
        get(&relay, "/.well-known/tabpeer.json", "Origin: http://example.org\r\n").await;
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    assert!(
        head.contains("cache-control: no-store") && head.contains("content-type: application/json"),
        "{head}"
    );
    let record: Value = serde_json::from_slice(&body).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let read = tabpeer::network::relay_record::RelayRecord::parse(&body, now).unwrap();
    assert_eq!(read.peer, relay.peer_id());
    let addresses: Vec<_> = relay.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(record["addresses"], serde_json::json!(addresses));
    assert_eq!(addresses.len(), 4);
    let id = format!("/p2p/{}", relay.peer_id());
    assert!(
        addresses.iter().all(|address| address.ends_with(&id) && !address.contains("/0/")),
        "{addresses:?}"
    );
    let webtransport = addresses.iter().find(|address| address.contains("/webtransport")).unwrap();
    assert_eq!(webtransport.matches("/certhash/").count(), 2, "{webtransport}");
    assert_eq!(record["limits"]["circuitBytes"], 0);
    assert_eq!(
        record["features"],
        serde_json::json!(["relay", "kad", "gossipsub", "bitswap", "gateway"])
    );
    let (status, ..) = get(&relay, "/healthz", "").await;
    assert_eq!(status, 200);
    let (status, _, body) = get(&relay, "/anything", "").await;
    assert_eq!((status, body.starts_with(b"404")), (404, true));
}

#[tokio::test]
async fn identity_and_hashes_survive_a_restart() {
    let (first, data) = start().await;
    let webtransport = |relay: &Relay| {
        let address = crate::address_with(relay, "/certhash").to_string();
        address[address.find("/certhash").unwrap()..].to_owned()
    };
    let before = (first.peer_id(), webtransport(&first));
    first.stop().await;
    let again = Relay::start(tabpeer_relay::RelayConfig::loopback(data.path())).await.unwrap();
    assert_eq!((again.peer_id(), webtransport(&again)), before);
}

#[tokio::test]
async fn external_addresses_replace_the_others() {
    let (relay, _data) = start_with(|config| {
        config.external_addresses =
            vec!["/dns4/relay.example.org/udp/443/quic-v1/webtransport".parse().unwrap()];
    })
    .await;
    let addresses = relay.addresses();
    assert_eq!(addresses.len(), 1);
    let text = addresses[0].to_string();
    assert!(
        text.starts_with("/dns4/relay.example.org/udp/443/quic-v1/webtransport/certhash/"),
        "{text}"
    );
    assert_eq!(text.matches("/certhash/").count(), 2, "{text}");
}

#[tokio::test]
async fn a_folder_is_served() {
    let root = tempfile::tempdir().unwrap();
    let site = root.path().join("site");
    std::fs::create_dir_all(site.join("deep")).unwrap();
    std::fs::write(root.path().join("secret.txt"), "secret").unwrap();
    for (name, text) in [
        ("index.html", "<p>top"),
        ("app.js", "1"),
        ("app.mjs", "2"),
        ("app.wasm", "3"),
        ("deep/index.html", "<p>deep"),
    ] {
        std::fs::write(site.join(name), text).unwrap();
    }
    let (relay, _data) = start_with(|config| config.http.site = Some(site.clone())).await;

    let (status, head, body) = get(&relay, "/", "").await;
    assert_eq!((status, body.as_slice()), (200, b"<p>top".as_slice()));
    assert!(head.contains("cache-control: no-cache") && head.contains("last-modified: "), "{head}");
    let modified = head.lines().find(|line| line.starts_with("last-modified: ")).unwrap();
    let modified = modified.trim_start_matches("last-modified: ").to_owned();
    let date = httpdate_case(&modified);
    let (status, ..) = get(&relay, "/", &format!("If-Modified-Since: {date}\r\n")).await;
    assert_eq!(status, 304);

    for (path, mime) in [
        ("/app.js", "text/javascript"),
        ("/app.mjs", "application/javascript"),
        ("/app.wasm", "application/wasm"),
        ("/deep/", "text/html"),
    ] {
        let (status, head, _) = get(&relay, path, "").await;
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {mime}")), "{path}: {head}");
    }
    let (status, _, body) = get(&relay, "/missing", "").await;
    assert_eq!((status, body.starts_with(b"404")), (404, true));
    let (status, ..) = get(&relay, "/.well-known/tabpeer.json", "").await;
    assert_eq!(status, 200, "the site does not hide the record");

    for path in [
        "/../secret.txt",
        "/deep/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//etc/passwd",
        "/%00",
    ] {
        let (status, _, body) = get(&relay, path, "").await;
        assert!(status >= 400, "{path}: {status}");
        assert!(
            !body.windows(6).any(|six| six == b"secret") && !body.starts_with(b"root:"),
            "{path}"
        );
    }
}

/// `get` gives headers in lower case; dates are read with their capitals.
fn httpdate_case(date: &str) -> String {
    date.split(' ')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
        })
        .collect::<Vec<String>>()
        .join(" ")
        .replace("Gmt", "GMT")
}

#[tokio::test]
async fn addresses_in_use_are_named() {
    let (first, _data) = start().await;
    let taken = first.http_addr();
    let other = tempfile::tempdir().unwrap();
    let mut config = tabpeer_relay::RelayConfig::loopback(other.path());
    config.http.listen = taken;
    let message = Relay::start(config.clone()).await.err().unwrap().to_string();
    assert!(message.contains(&taken.to_string()) && message.contains("in use"), "{message}");

    for part in ["/ws", "/webtransport", "/quic-v1/p2p", "/tcp/"] {
        let address = crate::address_with(&first, part).to_string();
        let cut = address.find("/certhash").or_else(|| address.find("/p2p")).unwrap();
        let mut config = tabpeer_relay::RelayConfig::loopback(other.path());
        config.listen = vec![address[..cut].parse().unwrap()];
        let message = Relay::start(config).await.err().unwrap().to_string();
        assert!(message.contains(&address[..cut]) && message.contains("in use"), "{message}");
    }
}
