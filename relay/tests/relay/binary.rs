//! The program itself.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

const ON_FREE_PORTS: [&str; 4] = [
    "--listen",
    "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws,/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
    "--http",
    "127.0.0.1:0",
];

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabpeer-relay"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ready_line(child: &mut Child) -> Value {
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(Duration::from_secs(20), lines.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

async fn signalled(signal: &str) {
    let data = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(ON_FREE_PORTS)
        .env("TABPEER_RELAY_DATA_DIR", data.path())
        .args(["--log-format", "json"])
        .spawn()
        .unwrap();
    let ready = ready_line(&mut child).await;
    assert_eq!(ready["ready"], true);
    assert!(ready["http"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
    assert_eq!(ready["addresses"].as_array().unwrap().len(), 3, "{ready}");
    assert!(data.path().join("identity.key").is_file());

    let started = Instant::now();
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    let status =
        tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5));
    let mut logs = String::new();
    child.stderr.take().unwrap().read_to_string(&mut logs).await.unwrap();
    assert!(!logs.is_empty());
    for line in logs.lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn ends_well_on_sigterm() {
    signalled("-TERM").await;
}

#[tokio::test]
async fn ends_well_on_sigint() {
    signalled("-INT").await;
}

#[tokio::test]
async fn says_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("relay.toml");
    std::fs::write(&file, "[circuits]\nmax_circuit = 3\n").unwrap();
    let file = file.to_str().unwrap();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let occupied = occupied.local_addr().unwrap().to_string();
    let directory = data.path().to_str().unwrap();
    for (arguments, expected) in [
        (vec!["--config", file], "max_circuit"),
        (vec!["--listen", "/ip4/127.0.0.1"], "listen"),
        (vec!["--circuit-seconds", "0"], "circuits.circuit_seconds"),
        (vec!["--site", "/does/not/exist"], "http.site"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--http", &occupied], occupied.as_str()),
    ] {
        let mut command = program();
        if arguments[0] != "--listen" {
            command.args(&ON_FREE_PORTS[..2]);
        }
        let output =
            command.args(["--data-dir", directory]).args(&arguments).output().await.unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}
