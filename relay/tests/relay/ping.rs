//! Pings from peers that do not answer ours, as js-libp2p is without its ping service.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, identity, noise, tcp, yamux};
use tabpeer::network::pong;

use crate::{address_with, start_with};

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than the relay takes to learn that it cannot ping.
const IN_A_ROW: u8 = 3;

#[tokio::test]
async fn who_cannot_be_pinged_is_answered() {
    let (relay, _data) =
        start_with(|config| config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]).await;
    let key = identity::Keypair::generate_ed25519();
    let transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    let behaviour = libp2p_stream::Behaviour::new();
    let mut swarm = Swarm::new(transport, behaviour, key.public().to_peer_id(), config);
    let mut control = swarm.behaviour().new_control();
    swarm.dial(address_with(&relay, "/tcp/")).unwrap();
    let connecting = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.expect("connects");
    let pings = async {
        for seed in 0..IN_A_ROW {
            // A stream is opened after what was asked before it: the relay's ping has been refused.
            let mut stream = control.open_stream(relay.peer_id(), pong::PROTOCOL).await.unwrap();
            for round in 0..2 {
                // Two at once: what comes right behind another is seen as well.
                let sent = [seed * 2 + round; 64];
                stream.write_all(&sent).await.unwrap();
                stream.flush().await.unwrap();
                let mut answered = [0; 64];
                stream.read_exact(&mut answered).await.unwrap();
                assert_eq!(answered, sent);
            }
            stream.close().await.unwrap();
        }
    };
    let run = async { while swarm.next().await.is_some() {} };
    tokio::select! {
        ended = tokio::time::timeout(PATIENCE, pings) => ended.expect("the relay answers pings"),
        () = run => panic!("the swarm ended"),
    }
}
