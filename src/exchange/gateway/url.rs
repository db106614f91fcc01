//! Where a gateway is: a URL that others can be made of by appending a path.

use std::{fmt, str::FromStr};

use cid::Cid;

/// Longest URL of a gateway.
pub const MAX_URL: usize = 1024;

/// `http` or `https`, a host, perhaps a port and a path. No user, no query, no fragment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayUrl(String);

/// Why a text is not the URL of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not the URL of a gateway or router: {reason}")]
pub struct GatewayUrlError {
    pub url: String,
    pub reason: &'static str,
}

impl FromStr for GatewayUrl {
    type Err = GatewayUrlError;

    fn from_str(text: &str) -> Result<Self, GatewayUrlError> {
        let checked = check(text.trim_ascii());
        checked.map(Self).map_err(|reason| {
            // It may hold a password.
            let url = text.chars().take(64).collect::<String>();
            let url = if url.contains('@') { "(hidden)".to_owned() } else { url };
            GatewayUrlError { url, reason }
        })
    }
}

impl GatewayUrl {
    /// Without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn raw(&self, cid: &Cid) -> String {
        format!("{}/ipfs/{cid}?format=raw", self.0)
    }

    pub(super) fn car(&self, cid: &Cid) -> String {
        format!("{}/ipfs/{cid}?format=car&dag-scope=entity", self.0)
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_URL {
        return Err("it is too long");
    }
    let (scheme, rest) = text.split_once("://").ok_or("it is not absolute")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err("it is neither http nor https");
    }
    if rest.contains(['?', '#']) {
        return Err("it has a query or a fragment");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("it names a user");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("its host is no address")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "its host is no address")?;
            (authority.get(..address.len() + 2).unwrap_or_default(), port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.starts_with('[') && !host.bytes().all(named) {
        return Err("its host is no name or address");
    }
    let number = if port.is_empty() { "1" } else { port.strip_prefix(':').unwrap_or_default() };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !number.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err("its port is no number");
    }
    let plain = |byte: u8| named(byte) || matches!(byte, b'/' | b'~');
    if !path.bytes().all(plain) || path.split('/').any(|part| part == "." || part == "..") {
        return Err("its path is not plain");
    }
    let host = host.to_ascii_lowercase();
    Ok(format!("{scheme}://{host}{port}{}", path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        for (text, url) in [
            ("https://a.example", "https://a.example"),
            (" HTTP://A.example:8080/ ", "http://a.example:8080"),
            ("http://[::1]:8080/x/y//", "http://[::1]:8080/x/y"),
            ("http://127.0.0.1", "http://127.0.0.1"),
        ] {
            let parsed: GatewayUrl = text.parse().expect(text);
            assert_eq!(parsed.as_str(), url);
        }
        for bad in [
            "",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "file:///etc",
            "javascript://a",
            "https://",
            "https:///x",
            "https://:80",
            "https://u@a",
            "https://u:secret@a",
            "https://a?b",
            "https://a/#b",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:",
            "https://a b",
            "https://a\r\nx",
            "https://a/../b",
            "https://a/%2e%2e",
            "https://[::1",
            "https://[a]",
            "https://[::1]x",
            "https://a\\b",
        ] {
            let error = bad.parse::<GatewayUrl>().expect_err(bad);
            assert!(!error.to_string().contains("secret"));
        }
        assert!(format!("http://{}", "a".repeat(MAX_URL)).parse::<GatewayUrl>().is_err());
    }

    #[test]
    fn a_block_has_a_url_of_its_own() {
        let url: GatewayUrl = "http://a/b/".parse().expect("a URL");
        let cid: Cid = "bafkqaaa".parse().expect("a CID");
        assert_eq!(url.raw(&cid), "http://a/b/ipfs/bafkqaaa?format=raw");
        assert_eq!(url.car(&cid), "http://a/b/ipfs/bafkqaaa?format=car&dag-scope=entity");
    }
}
