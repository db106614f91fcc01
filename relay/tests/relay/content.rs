//! Adding content: through the socket of a relay that runs, and without one.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tabpeer_relay::Relay;
use tokio::process::Command;

use crate::{start, start_with};

/// `hello world` as one raw block.
const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
/// The directory without entries.
const EMPTY: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

async fn program(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tabpeer-relay"))
        .args(arguments)
        .env("TABPEER_RELAY_DATA_DIR", data)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

/// A folder with a bit of everything.
fn folder(root: &Path) {
    let deep = root.join("tree/deep");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir(root.join("tree/empty")).unwrap();
    std::fs::write(root.join("tree/b.txt"), "hello world").unwrap();
    std::fs::write(root.join("tree/.hidden"), "secret").unwrap();
    std::fs::write(deep.join("c.bin"), vec![7; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("b.txt", root.join("tree/link")).unwrap();
    std::os::unix::fs::symlink("..", deep.join("up")).unwrap();
}

/// What `add` prints of it, whoever does the work.
async fn adds_the_folder(data: &Path, root: &Path) -> String {
    let tree = root.join("tree");
    let output = program(data, &["add", tree.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    let printed = lines(&output.stdout);
    let (cids, paths): (Vec<_>, Vec<_>) =
        printed.iter().map(|line| line.split_once(' ').unwrap()).unzip();
    assert_eq!(paths, ["tree/b.txt", "tree/deep/c.bin", "tree/deep", "tree/empty", "tree"]);
    assert_eq!((cids[0], cids[3]), (HELLO, EMPTY));
    let notices = lines(&output.stderr);
    for left_out in [".hidden: it is hidden", "link: it is a symbolic", "up: it is a symbolic"] {
        assert!(notices.iter().any(|notice| notice.contains(left_out)), "{notices:?}");
    }
    cids[4].to_owned()
}

#[tokio::test]
async fn a_folder_is_added_by_a_relay_and_without_one() {
    let files = tempfile::tempdir().unwrap();
    folder(files.path());
    let (relay, data) = start().await;
    let root = adds_the_folder(data.path(), files.path()).await;
    let store = relay.store().unwrap();
    assert!(store.check().await.unwrap().is_clean());
    let pinned = store.root(&format!("add/{root}")).await.unwrap().unwrap();
    assert_eq!(pinned.to_string(), root);

    let listed = program(data.path(), &["ls"]).await;
    assert_eq!(
        lines(&listed.stdout),
        [format!("{root} directory {}", size_of(store, pinned).await)]
    );
    relay.stop().await;

    // The same without a relay: the same CID, found by another start.
    let other = tempfile::tempdir().unwrap();
    assert_eq!(adds_the_folder(other.path(), files.path()).await, root);
    for data in [data.path(), other.path()] {
        let again = Relay::start(tabpeer_relay::RelayConfig::loopback(data)).await.unwrap();
        assert!(again.store().unwrap().has(&pinned).await.unwrap());
        let removed = program(data, &["rm", &root]).await;
        assert!(removed.status.success(), "{removed:?}");
        assert!(!again.store().unwrap().has(&pinned).await.unwrap());
        assert_eq!(again.store().unwrap().check().await.unwrap().blocks, 0);
        let removed = program(data, &["rm", &root]).await;
        assert_eq!(removed.status.code(), Some(1));
        assert!(lines(&removed.stderr)[0].contains("was not added"), "{removed:?}");
        again.stop().await;
    }
}

async fn size_of(store: &tabpeer::store::Store, cid: cid::Cid) -> usize {
    let mut walk =
        tabpeer::content::walk::Walk::new(cid, tabpeer::content::walk::Leaves::Fetch).unwrap();
    let mut size = 0;
    while !walk.is_done() {
        for cid in walk.wants(10) {
            let block = store.get(&cid).await.unwrap().unwrap();
            size += block.data().len();
            walk.supply(&block).unwrap();
        }
    }
    // The first two chunks of `c.bin` are one block, which the walk has named once.
    size + 1024 * 1024
}

#[tokio::test]
async fn what_is_left_out_can_be_asked_for() {
    let files = tempfile::tempdir().unwrap();
    folder(files.path());
    let data = tempfile::tempdir().unwrap();
    let tree = files.path().join("tree");
    let tree = tree.to_str().unwrap();
    let output =
        program(data.path(), &["add", "--hidden", "--follow-symlinks", "--name", "t", tree]).await;
    let printed = lines(&output.stdout);
    let paths: Vec<_> = printed.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    let all = ["t/.hidden", "t/b.txt", "t/deep/c.bin", "t/deep", "t/empty", "t/link", "t"];
    assert_eq!(paths, all);
    assert!(lines(&output.stderr)[0].contains("up: it is a symbolic link to a folder"));

    let quiet = program(data.path(), &["add", "-q", &format!("{tree}/b.txt")]).await;
    assert_eq!(lines(&quiet.stdout), [HELLO]);
    let json = program(data.path(), &["add", "--json", &format!("{tree}/empty")]).await;
    let event: Value = serde_json::from_str(&lines(&json.stdout)[0]).unwrap();
    let expected = serde_json::json!({"event": "added", "cid": EMPTY, "path": "empty", "size": 4});
    assert_eq!(event, expected);
    let old = ["add", "-q", "--profile", "unixfs-v0-2015", &format!("{tree}/empty")];
    let old = program(data.path(), &old).await;
    assert_eq!(lines(&old.stdout), ["QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"]);
}

#[tokio::test]
async fn mistakes_are_said_and_leave_nothing() {
    let (relay, data) = start_with(|config| config.store.max_bytes = 1_000_000).await;
    let files = tempfile::tempdir().unwrap();
    folder(files.path());
    let at = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let pipe = at("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
    std::fs::write(at("large"), (0..3_000_000_u32).map(|at| (at >> 8) as u8).collect::<Vec<_>>())
        .unwrap();
    for (arguments, code, expected) in [
        (vec!["add", "/does/not/exist"], 1, "/does/not/exist"),
        (vec!["add", &pipe], 1, "neither a file nor a folder"),
        (vec!["add", &at("large")], 1, "full"),
        (vec!["add", "--profile", "none", &at("tree")], 2, "unixfs-v1-2025"),
        (vec!["add"], 2, "PATH"),
        (vec!["rm", "nonsense"], 2, "nonsense"),
        (vec!["rm", HELLO], 1, HELLO),
    ] {
        let output = program(data.path(), &arguments).await;
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let store = relay.store().unwrap();
    assert_eq!(store.check().await.unwrap().blocks, 0);
    // What does fit is still taken.
    let small = program(data.path(), &["add", "-q", &at("tree/b.txt")]).await;
    assert_eq!(lines(&small.stdout), [HELLO]);
}

#[tokio::test]
async fn two_relays_do_not_share_a_store() {
    let (relay, data) = start().await;
    let second = Relay::start(tabpeer_relay::RelayConfig::loopback(data.path())).await;
    let message = second.err().unwrap().to_string();
    assert!(message.contains("another process"), "{message}");
    // It has not taken the first one's socket either.
    let listed = program(data.path(), &["ls"]).await;
    assert!(listed.status.success(), "{listed:?}");
    relay.stop().await;
    assert!(!data.path().join("control.sock").exists());
}

#[tokio::test]
async fn the_socket_is_its_owners_and_takes_no_nonsense() {
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_relay, data) = start().await;
    let socket = data.path().join("control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for nonsense in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{}", b"\0\0\0\x04nope"] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains("failed"), "{answer:?}");
    }
}

/// An add that is given up leaves no blocks, and does not keep the relay from stopping.
#[tokio::test]
async fn an_add_that_is_given_up_is_taken_back() {
    let (relay, data) = start().await;
    let files = tempfile::tempdir().unwrap();
    // Sparse: it takes a while to read, and no room.
    let large = std::fs::File::create(files.path().join("large")).unwrap();
    large.set_len(20 << 30).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tabpeer-relay"))
        .args(["add", "--json", files.path().to_str().unwrap()])
        .env("TABPEER_RELAY_DATA_DIR", data.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line).await.unwrap();
    assert!(line.contains("progress"), "{line}");
    child.kill().await.unwrap();
    let store = relay.store().unwrap().clone();
    let gone = async {
        while store.check().await.unwrap().blocks > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(store.roots("").await.unwrap(), []);
    relay.stop().await;
}

/// What a native peer of ours gets over Bitswap, without a word of configuration.
#[tokio::test]
async fn what_was_added_is_fetched_by_bitswap() {
    let (relay, data) = start().await;
    let files = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at >> 20) as u8 ^ at as u8).collect();
    std::fs::write(files.path().join("file"), &content).unwrap();
    let added = program(data.path(), &["add", "-q", files.path().to_str().unwrap()]).await;
    let root: cid::Cid = lines(&added.stdout)[0].parse().unwrap();

    let peer = Peer::connect(&relay).await;
    let fetched = peer.fetch_all(root).await;
    assert_eq!(fetched.len(), 7, "the directory, the file's root, five leaves");
    let of_file: usize =
        fetched.iter().filter(|b| b.cid().codec() == 0x55).map(|b| b.data().len()).sum();
    assert_eq!(of_file, content.len());
}

/// Blocks that only a connected peer has, through the gateway.
#[tokio::test]
async fn the_gateway_asks_connected_peers_if_it_is_told_to() {
    let (relay, _data) = start_with(|config| {
        config.gateway.fetch_from_peers = true;
        config.gateway.fetch_seconds = 5;
    })
    .await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at >> 20) as u8 ^ at as u8).collect();
    let profile = tabpeer::content::profile::Profile::default();
    let (blocks, root) = tabpeer::content::import::import_bytes(profile, &content);
    let peer = Peer::connect(&relay).await;
    let mut session = peer.store.session();
    for block in &blocks {
        session.put(block.clone()).await.unwrap();
    }
    session.flush().await.unwrap();

    let path = format!("/ipfs/{}?format=car", root.cid);
    let cached = crate::http::get(&relay, &path, "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(cached.0, 412);
    let (status, _, body) = crate::http::get(&relay, &path, "").await;
    assert_eq!(status, 200);
    assert_eq!(crate::gateway::car_cids(&body).len(), blocks.len());
    assert!(!relay.store().unwrap().has(&root.cid).await.unwrap(), "not kept on the disk");
    let absent = cid::Cid::try_from(HELLO).unwrap();
    let (status, ..) = crate::http::get(&relay, &format!("/ipfs/{absent}?format=raw"), "").await;
    assert_eq!(status, 404);
}

/// A native peer with Bitswap, connected with a relay.
struct Peer {
    _network: tabpeer::network::Network,
    bitswap: tabpeer::exchange::bitswap::Bitswap,
    store: tabpeer::store::Store,
}

impl Peer {
    async fn connect(relay: &Relay) -> Self {
        use tabpeer::network::{Network, NetworkConfig};
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let network = Network::start(NetworkConfig::new(keypair)).unwrap();
        let database = tabpeer::platform::memory::MemoryDatabase::new();
        let store = tabpeer::store::Store::open(std::sync::Arc::new(database)).await.unwrap();
        let streams = std::sync::Arc::new(network.clone());
        let bitswap =
            tabpeer::exchange::bitswap::Bitswap::start(streams, store.clone()).await.unwrap();
        network.dial(crate::address_with(relay, "/ws")).await.unwrap();
        Self { _network: network, bitswap, store }
    }

    async fn fetch_all(&self, root: cid::Cid) -> Vec<tabpeer::content::block::Block> {
        use tabpeer::content::walk::{Leaves, Walk};
        use tabpeer::exchange::bitswap::SessionEvent;
        let mut session = self.bitswap.session().unwrap();
        let mut walk = Walk::new(root, Leaves::Fetch).unwrap();
        let mut blocks = Vec::new();
        let fetch = async {
            while !walk.is_done() {
                let wants = walk.wants(100);
                session.want(wants).await;
                match session.next().await {
                    Some(SessionEvent::Block { block, .. }) => {
                        walk.supply(&block).unwrap();
                        blocks.push(block);
                    }
                    // The relay has not said yet what it speaks; the want stays.
                    Some(SessionEvent::Exhausted { .. }) => {}
                    None => panic!("closed"),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), fetch).await.unwrap();
        blocks
    }
}
