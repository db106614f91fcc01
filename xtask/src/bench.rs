//! `cargo xtask bench`: measurements in a real browser, beside that browser's own figures of the same run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::package::{self, Profile};
use crate::workspace::{cargo, metadata, root};
use crate::{Result, process, setup};

/// Every bench, by the name of its script in `tests/bench`.
const BENCHES: [&str; 3] = ["store", "transfer", "pubsub"];

/// Runs the named benches, or all.
pub fn run(names: &[String], profile: Profile) -> Result<()> {
    let chosen: Vec<&str> = match names {
        [] => BENCHES.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = chosen.iter().find(|name| !BENCHES.contains(name)) {
        return Err(format!("no bench `{unknown}`; there are: {}", BENCHES.join(" ")).into());
    }
    setup::npm("tests")?;
    let browser = setup::browser()?;
    for name in chosen {
        let mut bench = Command::new("node");
        bench.arg(format!("bench/{name}.mjs")).current_dir(root().join("tests"));
        browser.name_in(&mut bench);
        let pkg = match name {
            "transfer" => {
                package::build_for_benches(profile)?;
                package::bench_folder()?
            }
            _ => {
                package::build(profile)?;
                package::folder()
            }
        };
        bench.env("TABPEER_PKG", pkg);
        if name != "store" {
            let programs = build_programs()?;
            bench.env("TABPEER_RELAY", &programs.relay);
            bench.env("TABPEER_BENCH_RELAY", &programs.raw);
            bench.env("TABPEER_BENCH_CROWD", &programs.crowd);
        }
        process::run(&format!("bench {name}"), &mut bench)?;
    }
    Ok(())
}

/// The relay as it is shipped, the one that has the plain stream as well, and a room full of peers.
struct Programs {
    relay: PathBuf,
    raw: PathBuf,
    crowd: PathBuf,
}

fn build_programs() -> Result<Programs> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "tabpeer-relay", "--locked"]);
    build.args(["--bin", "tabpeer-relay", "--example", "raw_stream", "--example", "crowd"]);
    process::run("compiling the relay (release profile)", &mut build)?;
    let folder: &Path = &metadata()?.target.join("release");
    Ok(Programs {
        relay: folder.join("tabpeer-relay"),
        raw: folder.join("examples/raw_stream"),
        crowd: folder.join("examples/crowd"),
    })
}
