//! mDNS for real, in a network of its own: this test runs itself again in a fresh network namespace whose
//! only interface is the loopback, with multicast. Nothing leaves the machine, and nobody of the machine's
//! network is heard.

use std::process::Command;

use tabpeer::{network::PeerStreams as _, platform::nearby::Search};
use tabpeer_relay::{Relay, RelayConfig};

use super::*;

const TEST: &str = "mdns::peers_of_a_network_find_each_other";
/// Says to the second run that it is in the namespace.
const INSIDE: &str = "TABPEER_IN_NAMESPACE";
/// mDNS leaves loopback addresses out, so the loopback gets another.
const SETUP: &str = "ip link set lo up multicast on \
    && ip addr add 10.99.0.1/24 dev lo \
    && ip route add 224.0.0.0/4 dev lo \
    && exec \"$0\" \"$@\"";
const LISTEN: &str = "/ip4/10.99.0.1/tcp/0";

#[test]
fn peers_of_a_network_find_each_other() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        return runtime.block_on(find_each_other());
    }
    // As root, else as the root of a namespace of users.
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let permitted = |way: &&&[&str]| {
        let tried = Command::new("unshare").args(**way).args(["sh", "-c", SETUP, "true"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let Some(way) = ways.iter().find(permitted) else {
        let why = Command::new("unshare").args(ways[0]).args(["sh", "-c", SETUP, "true"]).output();
        eprintln!("NOT TESTED: mDNS needs a network namespace, which is not permitted here.");
        eprintln!("It takes root or user namespaces, `unshare` and `ip`: {why:?}");
        return;
    };
    let program = std::env::current_exe().expect("this test");
    let run = Command::new("unshare")
        .args(*way)
        .args(["sh", "-c", SETUP])
        .arg(program)
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("runs");
    let said = [&run.stdout[..], &run.stderr].map(String::from_utf8_lossy).concat();
    assert!(run.status.success() && said.contains("1 passed"), "in the namespace: {said}");
}

async fn find_each_other() {
    let start = |mdns| {
        let mut config = NetworkConfig::new(Keypair::generate_ed25519());
        config.listen = vec![LISTEN.parse().expect("valid")];
        config.search = Search { mdns, ..Search::default() };
        Network::start(config).expect("starts")
    };
    let [one, other, silent] = [true, true, false].map(start);
    let mut status = one.status();
    let connected = status.wait_for(|status| status.connected_peers == 1);
    tokio::time::timeout(PATIENCE, connected).await.expect("found").expect("open");
    let found = peer(&one, other.peer_id()).await;
    assert!(!found.is_circuit() && found.address.to_string().contains("10.99.0.1"), "{found:?}");
    serve_echo(&other).await;
    echoes(&one, other.peer_id(), 100_000).await;

    // A relay lets itself be found, and dials nobody.
    let data = tempfile::tempdir().expect("a folder");
    let mut config = RelayConfig::loopback(data.path());
    config.listen = vec![LISTEN.parse().expect("valid")];
    config.mdns = true;
    let relay = Relay::start(config).await.expect("starts");
    for network in [&one, &other] {
        let mut peers = network.peers();
        let found = async {
            while !peers.look().contains_key(&relay.peer_id()) {
                peers.changed().await.expect("open");
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("found");
    }

    // Whoever does not take part is not found.
    assert_eq!(silent.status().current().connected_peers, 0);
    let peers = one.connected_peers().await.expect("open");
    assert!(peers.iter().all(|peer| peer.id != silent.peer_id()));
    for network in [one, other, silent] {
        network.close().await;
    }
    relay.stop().await;
}
