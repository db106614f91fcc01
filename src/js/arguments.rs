//! Arguments coming in: options objects read field by field, with an error that names the field.

use std::time::Duration;

use js_sys::{Array, Function, JsString, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::AbortSignal;

use super::failure::thrown;
use crate::{
    config::{self, PeerConfig},
    content::profile::Profile,
    error::{Error, Result},
    network::RelaySpec,
    peer::ProgressSink,
};

/// How much of a string is taken over as an argument, in UTF-16 units. Above the limits of a path, a
/// CID and a peer id, so what is cut off here is refused there, each with its own error.
const MAX_TEXT_ARGUMENT: u32 = 64 << 10;

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
        self.get("signal", "not an AbortSignal", |value| value.dyn_into().ok())
    }

    pub(super) fn progress(&self) -> Result<Option<Progress>> {
        self.get("onProgress", "not a function", |value| value.dyn_into().ok().map(Progress))
    }

    pub(super) fn timeout(&self) -> Result<Option<Duration>> {
        self.get("timeout", "not a number of milliseconds above 0", |value| {
            let millis = value.as_f64().filter(|millis| *millis > 0.0 && *millis < 1e12)?;
            Some(Duration::from_secs_f64(millis / 1000.0))
        })
    }

    pub(super) fn profile(&self) -> Result<Profile> {
        let profile = self.get("profile", "not the name of an import profile", |value| {
            value.as_string()?.parse().ok()
        });
        Ok(profile?.unwrap_or_default())
    }

    /// The settings of `connect`; `origin` is the relay to ask when none is named.
    pub(super) fn config(&self, origin: Option<String>) -> Result<PeerConfig> {
        let mut config = PeerConfig::default();
        if let Some(text) = self.get("peerKey", "not a string", |value| value.as_string())? {
            config.keypair = Some(config::parse_key(&text)?);
        }
        if let Some(wait) = self.timeout()? {
            config.relay_wait = wait;
        }
        let relays = self.get("relays", "not an array of strings", |value| {
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
        Ok(config)
    }

    fn get<T>(
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
