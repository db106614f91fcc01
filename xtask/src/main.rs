//! `cargo xtask COMMAND`: everything one does with a clone of this repository.
//!
//! One command is one module; `process` runs and ends children, `workspace` knows where things are.

mod bench;
mod demo;
mod order;
mod package;
mod process;
mod setup;
mod tests;
mod workspace;

use std::process::ExitCode;

/// What every command returns; the text is what the person at the terminal reads.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const HELP: &str = "\
cargo xtask COMMAND

  setup                     install what the other commands need (each also does so by itself)
  build [--dev] [--site]    build the npm package into pkg/, print its size, check it against the budget;
                            with --site also the demo page, into www/dist/
  demo [--port P]           build everything, start a relay, serve the page, run until Ctrl-C
  demo --check              the same, then drive two browsers through the main job and exit
  test [PART...]            run the tests; parts: lint native web e2e interop (all when none is named)
                            --dev uses a debug build of the package, --only TEXT one file of e2e or interop
  bench [NAME...] [--dev]   measure, beside others in the same run; benches: store transfer pubsub (all when none is named)

Environment: TABPEER_CHROMIUM and TABPEER_CHROMEDRIVER name browsers that are not on PATH.";

fn main() -> ExitCode {
    process::end_children_on_signals();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = dispatch(&arguments);
    process::leave_it_to_the_signal();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    let mut options = Options::new(rest);
    match command {
        "setup" => {
            options.finish()?;
            setup::everything()
        }
        "build" => {
            let profile = package::Profile::from_flag(options.flag("--dev"));
            let site = options.flag("--site");
            options.finish()?;
            package::build(profile)?;
            if site {
                setup::npm("www")?;
                println!("site: {}", demo::build_site()?.display());
            }
            Ok(())
        }
        "demo" => {
            let check = options.flag("--check");
            let port = options.value("--port")?;
            options.finish()?;
            demo::run(check, port.as_deref())
        }
        "test" => {
            let profile = package::Profile::from_flag(options.flag("--dev"));
            let only = options.value("--only")?;
            tests::run(&options.rest, profile, only.as_deref())
        }
        "bench" => {
            let profile = package::Profile::from_flag(options.flag("--dev"));
            bench::run(&options.rest, profile)
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("no command `{other}`\n\n{HELP}").into()),
    }
}

/// The arguments after the command; what no one has taken is an error or a list of names.
struct Options {
    rest: Vec<String>,
}

impl Options {
    fn new(arguments: &[String]) -> Self {
        Self { rest: arguments.to_vec() }
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|argument| argument != name);
        self.rest.len() != before
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.rest.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        self.rest.remove(at);
        if at == self.rest.len() {
            return Err(format!("{name} needs a value").into());
        }
        Ok(Some(self.rest.remove(at)))
    }

    fn finish(&self) -> Result<()> {
        match self.rest.first() {
            Some(argument) => Err(format!("unknown argument `{argument}`\n\n{HELP}").into()),
            None => Ok(()),
        }
    }
}
