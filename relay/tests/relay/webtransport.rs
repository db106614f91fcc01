//! The WebTransport listener, dialled the way a browser does: by certificate hash, with Noise on the first stream.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::multihash::Multihash;
use libp2p::{PeerId, identity, noise};
use tabpeer_relay::webtransport::certificates::{WINDOW, window_at};
use tabpeer_relay::{Relay, RelayConfig};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use wtransport::stream::BiStream;
use wtransport::tls::Sha256Digest;
use wtransport::{ClientConfig, Connection, Endpoint};

use crate::{address_with, start};

const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";
const PATIENCE: Duration = Duration::from_secs(10);

/// What a dialler reads from the address.
struct Target {
    authority: String,
    certhashes: HashSet<Multihash<64>>,
}

fn target(address: &Multiaddr) -> Target {
    let mut target = Target { authority: String::new(), certhashes: HashSet::new() };
    for part in address {
        match part {
            Protocol::Ip4(ip) => target.authority = ip.to_string(),
            Protocol::Udp(port) => target.authority += &format!(":{port}"),
            Protocol::Certhash(hash) => drop(target.certhashes.insert(hash)),
            _ => {}
        }
    }
    target
}

async fn session(
    target: &Target,
    path: &str,
) -> Result<Connection, wtransport::error::ConnectingError> {
    let digests =
        target.certhashes.iter().map(|hash| Sha256Digest::new(hash.digest().try_into().unwrap()));
    let config =
        ClientConfig::builder().with_bind_default().with_server_certificate_hashes(digests).build();
    Endpoint::client(config).unwrap().connect(format!("https://{}{path}", target.authority)).await
}

async fn open(session: &Connection) -> Compat<BiStream> {
    let (send, receive) = session.open_bi().await.unwrap().await.unwrap();
    BiStream::join((send, receive)).compat()
}

async fn authenticate(
    session: &Connection,
    certhashes: HashSet<Multihash<64>>,
) -> Result<PeerId, noise::Error> {
    let key = identity::Keypair::generate_ed25519();
    let noise = noise::Config::new(&key).unwrap().with_webtransport_certhashes(certhashes);
    let (peer, mut channel) = noise.upgrade_outbound(open(session).await, "/noise").await?;
    // Browsers close the handshake's stream, and the server has to answer with an orderly end.
    channel.close().await.unwrap();
    let mut rest = Vec::new();
    channel.read_to_end(&mut rest).await.unwrap();
    Ok(peer)
}

/// multistream-select's lines for one protocol, as both sides write them.
fn selection(protocol: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in ["/multistream/1.0.0", protocol] {
        bytes.push(line.len() as u8 + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

async fn ping(session: &Connection, seed: u8) {
    let mut stream = open(session).await;
    let lines = selection("/ipfs/ping/1.0.0");
    stream.write_all(&lines).await.unwrap();
    let mut selected = vec![0; lines.len()];
    stream.read_exact(&mut selected).await.unwrap();
    assert_eq!(selected, lines);
    for round in 0..3 {
        let sent = [seed + round; 32];
        stream.write_all(&sent).await.unwrap();
        let mut echoed = [0; 32];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, sent);
    }
    // The server drops a stream that has ended; were it reset, a browser would lose what it has not read yet.
    stream.close().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

/// The server writes one message and closes its side.
async fn identify(session: &Connection) -> Vec<u8> {
    let mut stream = open(session).await;
    let lines = selection("/ipfs/id/1.0.0");
    stream.write_all(&lines).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(all.starts_with(&lines));
    stream.close().await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_an_authenticated_session() {
    let (relay, _data) = start().await;
    let target = target(&address_with(&relay, "/webtransport"));
    let all = async {
        let session = session(&target, PATH).await.unwrap();
        assert_eq!(
            authenticate(&session, target.certhashes.clone()).await.unwrap(),
            relay.peer_id()
        );
        for seed in [10, 20, 30] {
            ping(&session, seed).await;
        }
        let answers = futures::future::join_all((0..16).map(|_| identify(&session))).await;
        let agent = b"tabpeer-relay/";
        assert!(answers.iter().all(|answer| answer.windows(agent.len()).any(|part| part == agent)));

        // A stream dropped half-way does no harm to the next one.
        let (mut send, receive) = session.open_bi().await.unwrap().await.unwrap();
        send.write_all(b"\x13/multi").await.unwrap();
        send.reset(7_u32.into()).unwrap();
        receive.stop(7_u32.into());
        ping(&session, 40).await;

        let (closed, ()) = tokio::join!(session.closed(), relay.stop());
        assert!(
            matches!(closed, wtransport::error::ConnectionError::ApplicationClosed(_)),
            "{closed}"
        );
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away() {
    let (relay, _data) = start().await;
    let target = target(&address_with(&relay, "/webtransport"));
    let all = async {
        assert!(session(&target, "/elsewhere").await.is_err());
        let wrong = Multihash::wrap(0x12, &[1; 32]).unwrap();
        let stranger =
            Target { authority: target.authority.clone(), certhashes: HashSet::from([wrong]) };
        assert!(session(&stranger, PATH).await.is_err(), "the certificate's hash is another");

        // A hash that the relay does not confirm ends the handshake: somebody may stand between.
        let session = session(&target, PATH).await.unwrap();
        let mut more = target.certhashes.clone();
        more.insert(wrong);
        assert!(matches!(
            authenticate(&session, more).await,
            Err(noise::Error::UnknownWebTransportCerthashes(..))
        ));
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_running() {
    let data = tempfile::tempdir().unwrap();
    // The relay's clock stands a second before the present window, so that the certificate it comes to is a valid one.
    let boundary = UNIX_EPOCH + WINDOW * u32::try_from(window_at(SystemTime::now())).unwrap();
    let (start, begin) = (Instant::now(), boundary - Duration::from_secs(1));
    let clock = Arc::new(move || begin + start.elapsed());
    let mut relay = Relay::start_at(RelayConfig::loopback(data.path()), clock).await.unwrap();
    let before = target(&address_with(&relay, "/webtransport"));

    let changed = async {
        loop {
            relay.addresses_changed().await;
            let after = target(&address_with(&relay, "/certhash"));
            // In between both addresses are announced.
            if after.certhashes != before.certhashes && relay.addresses().len() == 4 {
                return after;
            }
        }
    };
    let after = tokio::time::timeout(PATIENCE, changed).await.unwrap();
    assert_eq!(after.certhashes.intersection(&before.certhashes).count(), 1);

    // Both who knows the new address and who still has the old one get in.
    for known in [&after, &before] {
        let all = async {
            let session = session(known, PATH).await.unwrap();
            assert_eq!(
                authenticate(&session, known.certhashes.clone()).await.unwrap(),
                relay.peer_id()
            );
            ping(&session, 1).await;
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
    }
}
