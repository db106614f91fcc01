//! `tabpeer-relay add`, `ls` and `rm`: asked of the relay that runs, or done here when none does.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tabpeer::content::profile::Profile;
use tabpeer_relay::RelayConfig;
use tabpeer_relay::content::{self, AddEvent, AddOptions, Pin};
use tabpeer_relay::control::{Client, Reply, Request};
use tokio::sync::mpsc;

/// Events of an add that wait to be printed.
const EVENT_QUEUE: usize = 64;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What to do instead of running a relay.
#[derive(Debug, Subcommand)]
pub enum Command {
    Add(Add),
    Ls(Ls),
    Rm(Rm),
}

/// Add a file or a folder to the relay's store, to be served by Bitswap and by its gateway.
///
/// Prints one line `CID PATH` for each file and folder, what was asked for last; notices go to stderr. The relay that runs
/// with the same data directory does the work and must be able to read the files; when none runs, this program does.
/// Ends with code 0 when everything is durable, 1 when nothing was added, 2 when the command line is wrong.
#[derive(Debug, Args)]
pub struct Add {
    /// The file or folder.
    path: PathBuf,

    /// Import profile, which decides the CIDs: unixfs-v1-2025, kubo-v1-raw or unixfs-v0-2015.
    #[arg(long, value_name = "NAME", default_value_t)]
    profile: Profile,

    /// Call it this in the output.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Add files and folders whose names begin with a dot, too.
    #[arg(long)]
    hidden: bool,

    /// Add what symbolic links lead to; without this they are left out.
    #[arg(long)]
    follow_symlinks: bool,

    /// Print only the last CID.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    /// Print objects of JSON, one a line: {"event":"added"|"skipped"|"progress",…}.
    #[arg(long)]
    json: bool,
}

/// List what was added: CID, kind and size.
#[derive(Debug, Args)]
pub struct Ls {
    /// Print objects of JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// Remove what was added, and every block that nothing else needs.
#[derive(Debug, Args)]
pub struct Rm {
    cid: cid::Cid,
}

pub async fn run(command: Command, config: &RelayConfig) -> Outcome {
    if !config.store.enabled {
        return Err("the configuration says store.enabled = false".into());
    }
    let relay = Client::connect(&config.data_dir).await?;
    match command {
        Command::Add(add) => add.run(config, relay).await,
        Command::Ls(ls) => ls.run(config, relay).await,
        Command::Rm(rm) => rm.run(config, relay).await,
    }
}

impl Add {
    async fn run(self, config: &RelayConfig, relay: Option<Client>) -> Outcome {
        let path = absolute(&self.path)?;
        let mut printer = Printer::new(self.quiet, self.json);
        let Some(relay) = relay else {
            let store = open(config).await?;
            let options = AddOptions {
                profile: self.profile,
                name: self.name,
                hidden: self.hidden,
                follow_symlinks: self.follow_symlinks,
            };
            let (events, mut told) = mpsc::channel(EVENT_QUEUE);
            let print = async {
                while let Some(event) = told.recv().await {
                    printer.event(&event);
                }
            };
            let (added, ()) = tokio::join!(content::add(&store, &path, &options, events), print);
            store.close().await;
            added?;
            return printer.end();
        };
        let request = Request::Add {
            path,
            profile: self.profile.to_string(),
            name: self.name,
            hidden: self.hidden,
            follow_symlinks: self.follow_symlinks,
        };
        let each = |reply| {
            if let Reply::Event(event) = reply {
                printer.event(&event);
            }
        };
        relay.request(&request, each).await?;
        printer.end()
    }
}

impl Ls {
    async fn run(self, config: &RelayConfig, relay: Option<Client>) -> Outcome {
        let mut pins = Vec::new();
        match relay {
            Some(relay) => {
                let each = |reply| {
                    if let Reply::Pin(pin) = reply {
                        pins.push(pin);
                    }
                };
                relay.request(&Request::List, each).await?;
            }
            None => {
                let store = open(config).await?;
                let listed = content::list(&store).await;
                store.close().await;
                pins = listed?;
            }
        }
        let mut out = io::stdout().lock();
        for pin in &pins {
            match self.json {
                true => writeln!(out, "{}", serde_json::to_string(pin)?)?,
                false => {
                    let Pin { cid, kind, size } = pin;
                    writeln!(out, "{cid} {kind} {size}")?;
                }
            }
        }
        Ok(())
    }
}

impl Rm {
    async fn run(self, config: &RelayConfig, relay: Option<Client>) -> Outcome {
        if let Some(relay) = relay {
            let request = Request::Remove { cid: self.cid.to_string() };
            return Ok(relay.request(&request, drop).await?);
        }
        let store = open(config).await?;
        let removed = content::remove(&store, self.cid).await;
        store.close().await;
        Ok(removed?)
    }
}

async fn open(config: &RelayConfig) -> Result<tabpeer::store::Store, Box<dyn std::error::Error>> {
    content::open(config).await.map_err(|error| match content::is_in_use(&error) {
        true => format!(
            "{error}: it runs, but does not answer at {}",
            tabpeer_relay::control::socket_path(&config.data_dir).display()
        )
        .into(),
        false => error.into(),
    })
}

/// The relay has another working directory.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match path.file_name() {
        Some(_) => std::path::absolute(path),
        // `.` and `..` have no name to show.
        None => path.canonicalize(),
    }
}

/// Says what is added as it was asked to be said.
struct Printer {
    quiet: bool,
    json: bool,
    /// Whether somebody watches stderr.
    watched: bool,
    /// Stdout was closed: nothing can be said any more.
    failure: Option<io::Error>,
    last: Option<String>,
}

impl Printer {
    fn new(quiet: bool, json: bool) -> Self {
        let watched = io::stderr().is_terminal() && !quiet && !json;
        Self { quiet, json, watched, failure: None, last: None }
    }

    fn event(&mut self, event: &AddEvent) {
        let printed = match event {
            _ if self.json => serde_json::to_string(event)
                .map_err(io::Error::from)
                .and_then(|json| writeln!(io::stdout(), "{json}")),
            AddEvent::Added(added) => {
                self.last = Some(added.cid.clone());
                match self.quiet {
                    true => Ok(()),
                    false => writeln!(io::stdout(), "{} {}", added.cid, added.path),
                }
            }
            AddEvent::Skipped { path, reason } => {
                writeln!(io::stderr(), "tabpeer-relay: left out {path}: {reason}")
            }
            AddEvent::Progress { bytes } if self.watched => {
                write!(io::stderr(), "\r{} MiB read\r", bytes >> 20)
            }
            AddEvent::Progress { .. } => Ok(()),
        };
        if let Err(error) = printed {
            self.failure.get_or_insert(error);
        }
    }

    fn end(self) -> Outcome {
        if let Some(cid) = self.last.filter(|_| self.quiet) {
            writeln!(io::stdout(), "{cid}")?;
        }
        Ok(self.failure.map_or(Ok(()), Err)?)
    }
}
