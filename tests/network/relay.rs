//! A circuit relay on this machine, to be killed and started again under the same key and ports.

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tabpeer::network::relay_record;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

/// What a circuit may carry.
#[derive(Clone, Copy)]
pub struct Limits {
    pub bytes: u64,
    pub seconds: u64,
}

impl Limits {
    pub const NONE: Self = Self { bytes: 0, seconds: 24 * 3600 };
    pub const SMALL: Self = Self { bytes: 1 << 17, seconds: 120 };
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

pub struct TestRelay {
    keypair: Keypair,
    limits: Limits,
    pub tcp: Multiaddr,
    pub ws: Multiaddr,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl TestRelay {
    pub async fn start(limits: Limits) -> Self {
        let any = |address: &str| address.parse().expect("a valid address");
        let addresses = [any("/ip4/127.0.0.1/tcp/0"), any("/ip4/127.0.0.1/tcp/0/ws")];
        Self::start_at(Keypair::generate_ed25519(), limits, addresses).await
    }

    async fn start_at(keypair: Keypair, limits: Limits, addresses: [Multiaddr; 2]) -> Self {
        let mut swarm = swarm(keypair.clone(), limits).await;
        for address in addresses {
            swarm.listen_on(address).expect("listens");
        }
        let (mut tcp, mut ws) = (None, None);
        while tcp.is_none() || ws.is_none() {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                // A reservation names these; without, the client refuses it.
                swarm.add_external_address(address.clone());
                let is_ws = address.iter().any(|p| matches!(p, Protocol::Ws(_)));
                *if is_ws { &mut ws } else { &mut tcp } = Some(address);
            }
        }
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    _ = swarm.select_next_some() => {}
                }
            }
        });
        let (tcp, ws) = (tcp.expect("listens"), ws.expect("listens"));
        Self { keypair, limits, tcp, ws, task, stop }
    }

    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    /// The address with the relay's id.
    pub fn named(&self, address: &Multiaddr) -> Multiaddr {
        address.clone().with(Protocol::P2p(self.peer_id()))
    }

    /// Serves its record over HTTP, as long as the test runs, and says at which URL.
    pub async fn serve_record(&self) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let serde_json::Value::Object(record) = serde_json::json!({
            "version": 1,
            "addresses": ["/ip4/127.0.0.1/udp/1/quic-v1/webtransport", self.ws.to_string()],
            "limits": {"circuitBytes": 0, "circuitSeconds": 86400, "reservations": 10},
            "features": [],
            "issuedAt": now,
            "expiresAt": now + 3600,
        }) else {
            panic!("an object")
        };
        let record = relay_record::sign(record, &self.keypair).expect("signs");
        let body = serde_json::Value::Object(record).to_string();
        serve_http(relay_record::RECORD_PATH, body).await
    }

    /// Ends it as a crash would: the connections break.
    pub async fn kill(self) -> DeadRelay {
        drop(self.stop);
        let _ = self.task.await;
        DeadRelay { keypair: self.keypair, limits: self.limits, addresses: [self.tcp, self.ws] }
    }
}

pub struct DeadRelay {
    keypair: Keypair,
    limits: Limits,
    addresses: [Multiaddr; 2],
}

impl DeadRelay {
    pub async fn restart(self) -> TestRelay {
        TestRelay::start_at(self.keypair, self.limits, self.addresses).await
    }
}

/// One answer for one path; everything else is not found.
pub async fn serve_http(path: &'static str, body: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = socket.read_u8().await else { break };
                request.push(byte);
            }
            let found = request.starts_with(format!("GET {path} ").as_bytes());
            let (status, body) = if found { ("200 OK", body.as_str()) } else { ("404 Gone", "") };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    format!("http://127.0.0.1:{port}")
}

async fn swarm(keypair: Keypair, limits: Limits) -> Swarm<Behaviour> {
    let config = relay::Config {
        max_circuit_bytes: limits.bytes,
        max_circuit_duration: std::time::Duration::from_secs(limits.seconds),
        ..relay::Config::default()
    };
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_websocket(noise::Config::new, yamux::Config::default)
        .await
        .expect("websocket")
        .with_behaviour(|keypair| Behaviour {
            relay: relay::Behaviour::new(keypair.public().to_peer_id(), config),
            identify: identify::Behaviour::new(identify::Config::new(
                "test/1".to_owned(),
                keypair.public(),
            )),
            ping: ping::Behaviour::default(),
        })
        .expect("behaviour")
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(std::time::Duration::from_secs(60))
        })
        .build()
}
