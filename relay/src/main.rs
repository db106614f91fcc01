//! The command line of the relay: flags over environment over file, logs on stderr, one line on stdout when it is ready.

mod arguments;
mod command;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use arguments::{Arguments, LogFormat};
use clap::Parser;
use tabpeer_relay::{Relay, RelayConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise.
/// (libp2p-kad warns at every connection that it has nobody to look up, which is how this relay is meant to be.)
const DEFAULT_FILTER: &str = "info,libp2p_kad=error";
/// The same for `add` and the like, which speak for themselves.
const COMMAND_FILTER: &str = "warn";

#[tokio::main]
async fn main() -> ExitCode {
    tabpeer_relay::install_crypto_provider();
    let arguments = Arguments::parse();
    let filter = if arguments.command.is_some() { COMMAND_FILTER } else { DEFAULT_FILTER };
    start_logging(arguments.log_format, filter);
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = format!("tabpeer-relay: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !message.contains(&cause_text) {
                    message.push_str(": ");
                    message.push_str(&cause_text);
                }
                source = cause.source();
            }
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(command) = arguments.command.take() {
        return command::run(command, &arguments.into_config()?).await;
    }
    // Before anything is started, so that no signal is lost.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let config: RelayConfig = arguments.into_config()?;
    let relay = tokio::select! {
        relay = Relay::start(config) => relay?,
        () = either(&mut interrupted, &mut terminated) => return Ok(()),
    };
    announce(&relay)?;
    either(&mut interrupted, &mut terminated).await;
    tracing::info!("stopping");
    relay.stop().await;
    Ok(())
}

/// For programs that started this one and wait for it.
fn announce(relay: &Relay) -> std::io::Result<()> {
    let addresses: Vec<_> = relay.addresses().iter().map(ToString::to_string).collect();
    let line = serde_json::json!({
        "ready": true,
        "peerId": relay.peer_id().to_string(),
        "http": format!("http://{}", reachable(relay.http_addr())),
        "addresses": addresses,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The wildcard address cannot be put into a browser.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn either(interrupted: &mut Signal, terminated: &mut Signal) {
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
}

fn start_logging(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        LogFormat::Json => logs.json().init(),
    }
}
