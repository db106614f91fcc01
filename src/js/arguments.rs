//! Arguments coming in: options objects read field by field, with an error that names the field.

use std::{ops::Range, sync::Arc, time::Duration};

use js_sys::{Array, Function, JsString, Reflect};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::AbortSignal;

use super::failure::thrown;
use crate::{
    config::{self, PeerConfig},
    content::profile::Profile,
    error::{Error, Result},
    exchange::{
        config::MAX_SERVERS,
        fetch::{PeerScore, PeerScoreInput, SourceKind, Strategy},
    },
    network::RelaySpec,
    peer::{GetOptions, ProgressSink},
};

/// How much of a string is taken over as an argument, in UTF-16 units. Above the limits of a path, a
/// CID and a peer id, so what is cut off here is refused there, each with its own error.
const MAX_TEXT_ARGUMENT: u32 = 64 << 10;

/// Most hops that others may go on our behalf.
const MAX_TTL: f64 = 4.0;
/// The largest whole number that JS counts exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// An options object; `undefined` and `null` are an empty one.
pub(super) struct Options(JsValue);

impl Options {
    pub(super) fn new(value: JsValue) -> Result<Self> {
        if value.is_undefined() || value.is_null() || value.is_object() {
            Ok(Self(value))
        } else {
            Err(bad("options", "not an object"))
        }
    }

    pub(super) fn signal(&self) -> Result<Option<AbortSignal>> {
        self.read("signal", "not an AbortSignal", |value| value.dyn_into().ok())
    }

    pub(super) fn progress(&self) -> Result<Option<Progress>> {
        self.read("onProgress", "not a function", |value| value.dyn_into().ok().map(Progress))
    }

    pub(super) fn timeout(&self) -> Result<Option<Duration>> {
        self.read("timeout", "not a number of milliseconds above 0", |value| {
            let millis = value.as_f64().filter(|millis| *millis > 0.0 && *millis < 1e12)?;
            Some(Duration::from_secs_f64(millis / 1000.0))
        })
    }

    pub(super) fn profile(&self) -> Result<Profile> {
        let profile = self.read("profile", "not the name of an import profile", |value| {
            value.as_string()?.parse().ok()
        });
        Ok(profile?.unwrap_or_default())
    }

    /// What `getFile`, `fetch` and the like have in common.
    pub(super) fn get(&self) -> Result<GetOptions> {
        let progress = self.progress()?.map(|progress| Arc::new(progress) as Arc<dyn ProgressSink>);
        let ttl = self.read("ttl", "not a whole number from 0 to 4", |value| {
            let ttl = value.as_f64()?;
            (ttl.fract() == 0.0 && (0.0..=MAX_TTL).contains(&ttl)).then_some(ttl as u32)
        })?;
        let requester = self.read("requesterId", "not a DID", |value| {
            let did = text(&value, "requesterId").ok()?;
            (did.starts_with("did:") && did.len() <= config::MAX_TEXT).then_some(did)
        })?;
        let sources = self.sources()?.unwrap_or_default();
        Ok(GetOptions {
            timeout: self.timeout()?,
            progress,
            sources,
            ttl,
            requester,
            ..GetOptions::default()
        })
    }

    /// Bytes of a file; the end is `u64::MAX` where none is given.
    pub(super) fn range(&self) -> Result<Option<Range<u64>>> {
        let bound = |name, problem| {
            self.read(name, problem, |value| {
                let at = value.as_f64()?;
                (at.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&at)).then_some(at as u64)
            })
        };
        let start = bound("start", "not a whole number from 0")?;
        let end = bound("end", "not a whole number from 0")?;
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or(u64::MAX));
        if end < start {
            return Err(bad("end", "below start"));
        }
        Ok(Some(start..end))
    }

    fn sources(&self) -> Result<Option<Vec<SourceKind>>> {
        let problem = "not an array of 'local', 'peers', 'network', 'relay' and 'gateway'";
        self.read("sources", problem, |value| {
            let list: Array = value.dyn_into().ok()?;
            // An empty array would stand for the configured ones; only what is here can be meant.
            if list.length() == 0 {
                return Some(vec![SourceKind::Local]);
            }
            list.iter().map(|name| SourceKind::of_name(&name.as_string()?)).collect()
        })
    }

    fn servers(&self, name: &'static str) -> Result<Vec<String>> {
        let list = self.read(name, "not an array of http(s) URLs", |value| {
            let list: Array = value.dyn_into().ok()?;
            list.iter().map(|item| item.as_string()).collect::<Option<Vec<String>>>()
        })?;
        let list = list.unwrap_or_default();
        if list.len() > MAX_SERVERS {
            return Err(bad(name, &format!("more than {MAX_SERVERS}")));
        }
        Ok(list)
    }

    /// The settings of `connect`; `origin` is the relay to ask when none is named.
    pub(super) fn config(&self, origin: Option<String>) -> Result<PeerConfig> {
        let mut config = PeerConfig::default();
        if let Some(text) = self.read("peerKey", "not a string", |value| value.as_string())? {
            config.keypair = Some(config::parse_key(&text)?);
        }
        if let Some(wait) = self.timeout()? {
            config.relay_wait = wait;
        }
        let relays = self.read("relays", "not an array of strings", |value| {
            let list: Array = value.dyn_into().ok()?;
            list.iter().map(|item| item.as_string()).collect::<Option<Vec<String>>>()
        })?;
        config.relays = match (relays, origin) {
            (Some(relays), _) => {
                relays.iter().map(|text| config::parse_relay(text)).collect::<Result<_>>()?
            }
            (None, Some(origin)) => vec![RelaySpec::Url(origin)],
            (None, None) => Vec::new(),
        };
        if let Some(tabs) = self.read("tabs", "not true or false", |value| value.as_bool())? {
            config.search.tabs = tabs;
        }
        config.file_update_topic = self.string("fileUpdateNotifyTopic")?;
        config.exchange.gateways = self.servers("gateways")?;
        config.exchange.routers = self.servers("routers")?;
        if let Some(sources) = self.sources()? {
            config.exchange.sources = sources;
        }
        if let Some(strategy) =
            self.read("strategy", "not the name of a strategy or a function", strategy)?
        {
            config.exchange.strategy = strategy;
        }
        Ok(config)
    }

    /// A string that may be left out.
    pub(super) fn string(&self, name: &'static str) -> Result<Option<String>> {
        self.read(name, "not a string", |value| text(&value, name).ok())
    }

    pub(super) fn read<T>(
        &self,
        name: &'static str,
        problem: &str,
        read: impl FnOnce(JsValue) -> Option<T>,
    ) -> Result<Option<T>> {
        if !self.0.is_object() {
            return Ok(None);
        }
        let value =
            Reflect::get(&self.0, &name.into()).map_err(|error| bad(name, &thrown(&error)))?;
        if value.is_undefined() || value.is_null() {
            return Ok(None);
        }
        read(value).map(Some).ok_or_else(|| bad(name, problem))
    }
}

fn strategy(value: JsValue) -> Option<Strategy> {
    Some(match value.as_string().as_deref() {
        Some("performance") => Strategy::Performance,
        Some("trust") => Strategy::Trust,
        Some("privacy-first") => Strategy::PrivacyFirst,
        Some("cost") => Strategy::Cost,
        Some(_) => return None,
        None => Strategy::Custom(Arc::new(Score(SendWrapper::new(value.dyn_into().ok()?)))),
    })
}

/// An app's function; what throws or gives no number counts as 0.
struct Score(SendWrapper<Function>);

impl PeerScore for Score {
    fn score(&self, input: &PeerScoreInput) -> f64 {
        let number = |value: Option<f64>| value.map_or(JsValue::UNDEFINED, JsValue::from);
        let latency = input.latency.map(|latency| latency.as_secs_f64() * 1000.0);
        let input = object(&[
            ("peer", input.peer.to_string().into()),
            ("direct", input.direct.into()),
            ("hasIPFS", input.has_ipfs.into()),
            ("latency", number(latency)),
            ("bandwidth", number(input.bandwidth)),
            ("success", input.success.unwrap_or(1.0).into()),
            ("trust", input.trust.into()),
        ]);
        match self.0.call1(&JsValue::NULL, &input) {
            Ok(score) => score.as_f64().unwrap_or_default(),
            Err(error) => {
                web_sys::console::error_2(&"tabpeer: strategy threw".into(), &error);
                0.0
            }
        }
    }
}

/// An object for JS.
pub(super) fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let out = js_sys::Object::new();
    for (name, value) in fields {
        // Setting a property of a fresh object cannot fail.
        let _ = Reflect::set(&out, &(*name).into(), value);
    }
    out.into()
}

/// A required string argument.
pub(super) fn text(value: &JsValue, what: &'static str) -> Result<String> {
    let text = value.dyn_ref::<JsString>().ok_or_else(|| bad(what, "not a string"))?;
    Ok(String::from(text.slice(0, MAX_TEXT_ARGUMENT)))
}

pub(super) fn bad(what: &'static str, reason: &str) -> Error {
    Error::BadArgument { what, reason: reason.to_owned() }
}

/// `onProgress`. One that throws is reported to the console and does not stop the work.
pub(super) struct Progress(Function);

impl ProgressSink for Progress {
    fn report(&self, done: u64, total: Option<u64>) {
        let event = js_sys::Object::new();
        let _ = Reflect::set(&event, &"bytes".into(), &(done as f64).into());
        if let Some(total) = total {
            let _ = Reflect::set(&event, &"total".into(), &(total as f64).into());
        }
        if let Err(error) = self.0.call1(&JsValue::NULL, &event) {
            web_sys::console::error_2(&"tabpeer: onProgress threw".into(), &error);
        }
    }
}
