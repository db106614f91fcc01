//! `cargo xtask demo`: the whole product on this machine, to look at or to check by itself.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::package::{self, Profile};
use crate::process::{self, Server};
use crate::workspace::{cargo, metadata, root};
use crate::{Result, setup};

/// Where the page is served unless `--port` says otherwise.
const PORT: u16 = 4080;

/// The relay's transports in a demonstration: this machine only, any free port.
const LISTEN: [&str; 4] = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
];

/// How long a relay may take to make its key and open its listeners.
const RELAY_PATIENCE: Duration = Duration::from_secs(60);

/// Builds all parts, then serves the page until Ctrl-C, or drives two browsers through it.
pub fn run(check: bool, port: Option<&str>) -> Result<()> {
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, chosen_port(port)?));
    println!("tabpeer demo: the first run compiles everything and takes a few minutes");
    setup::npm("www")?;
    let browser = if check {
        setup::npm("tests")?;
        Some(setup::browser()?)
    } else {
        None
    };
    package::build(Profile::Npm)?;
    let relay = build_relay()?;
    let site = build_site()?;

    if let Some(browser) = browser {
        // The driver starts the relay itself: it needs one on free ports with a fresh store.
        let mut driver = Command::new("node");
        driver.arg("tests/e2e/demo-check.mjs").current_dir(root());
        driver.env("TABPEER_RELAY", &relay).env("TABPEER_SITE", &site);
        browser.name_in(&mut driver);
        return process::run("two browsers, one relay: the main job", &mut driver);
    }

    let data = metadata()?.target.join("demo");
    std::fs::create_dir_all(&data)?;
    let mut command = Command::new(&relay);
    command.arg("--site").arg(&site).arg("--data-dir").arg(&data);
    command.args(["--http", &http.to_string()]).args(["--listen", &LISTEN.join(",")]);
    let server = Server::start("starting the relay", &mut command, RELAY_PATIENCE)?;
    println!("relay {}", server.ready["peerId"].as_str().unwrap_or("without an id"));
    for address in server.ready["addresses"].as_array().into_iter().flatten() {
        println!("  {}", address.as_str().unwrap_or_default());
    }
    println!();
    println!(
        "open {} in two browser windows (Ctrl-C ends it)",
        server.ready["http"].as_str().unwrap_or("?")
    );
    std::io::stdout().flush()?;
    let status = server.wait()?;
    Err(format!("the relay ended by itself: {status}").into())
}

/// Compiles the relay for this machine and hands back the program's path.
pub fn build_relay() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "tabpeer-relay", "--bin", "tabpeer-relay", "--locked"]);
    process::run("compiling the relay (dev profile)", &mut build)?;
    Ok(metadata()?.target.join("debug/tabpeer-relay"))
}

/// Bundles the page and hands back the folder to serve.
pub fn build_site() -> Result<PathBuf> {
    let www = root().join("www");
    let vite = www.join("node_modules/vite/bin/vite.js");
    let mut build = Command::new("node");
    build.arg(vite).args(["build", "--logLevel", "warn"]).current_dir(&www);
    process::run("bundling the page", &mut build)?;
    let site = www.join("dist");
    expect_file(&site.join("index.html"))?;
    Ok(site)
}

/// The port asked for; else the usual one, or any free one when another program has that.
fn chosen_port(port: Option<&str>) -> Result<u16> {
    match port {
        Some(port) => port.parse().map_err(|_| format!("--port {port}: not a port").into()),
        None => Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_or(0, |_| PORT)),
    }
}

fn expect_file(path: &Path) -> Result<()> {
    if path.is_file() { Ok(()) } else { Err(format!("{} was not built", path.display()).into()) }
}
