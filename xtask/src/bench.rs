//! `cargo xtask bench`: measurements in a real browser, beside that browser's own figures of the same run.

use std::process::Command;

use crate::package::{self, Profile};
use crate::workspace::root;
use crate::{Result, process, setup};

/// Every bench, by the name of its script in `tests/bench`.
const BENCHES: [&str; 1] = ["store"];

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
    package::build(profile)?;
    for name in chosen {
        let mut bench = Command::new("node");
        bench.arg(format!("bench/{name}.mjs")).current_dir(root().join("tests"));
        bench.env("TABPEER_PKG", package::folder());
        browser.name_in(&mut bench);
        process::run(&format!("bench {name}"), &mut bench)?;
    }
    Ok(())
}
