//! TCP and WebSocket over TCP, names resolved by the system.

use libp2p::{Transport, dns, identity::Keypair, swarm, tcp, websocket};

use crate::platform::{
    Carrier, Dialer,
    transport::{Only, PeerTransport, TransportSetupError, secure},
};

pub fn dialer() -> Dialer {
    Dialer::Native
}

pub fn swarm_config() -> swarm::Config {
    swarm::Config::with_tokio_executor()
}

pub fn base_transport(keypair: &Keypair) -> Result<PeerTransport, TransportSetupError> {
    let tcp = || {
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        dns::tokio::Transport::system(tcp).map_err(|e| TransportSetupError(e.to_string()))
    };
    let plain = Only::new(&[Carrier::Tcp], secure(tcp()?, keypair)?);
    let websocket = websocket::Config::new(tcp()?);
    let websocket =
        Only::new(&[Carrier::WebSocket, Carrier::SecureWebSocket], secure(websocket, keypair)?);
    Ok(plain.or_transport(websocket).map(|either, _| either.into_inner()).boxed())
}
