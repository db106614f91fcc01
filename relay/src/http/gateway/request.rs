//! What a request to the gateway asks for, read from its path, its query and its headers.

use std::borrow::Cow;

use axum::http::{HeaderMap, Uri, header};
use cid::Cid;
use tabpeer::content::block::Block;
use tabpeer::content::path::{MAX_PARTS, MAX_PATH, check_name};

/// Longest CID as text: 168 bytes in base32 have 270 characters.
const MAX_CID_TEXT: usize = 300;
/// Most parameters of a query, and media types in `Accept`, that are looked at.
const MAX_LISTED: usize = 32;
/// The empty identity CID, which clients ask for to see whether this is a gateway.
const PROBE: &str = "bafkqaaa";

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub root: Cid,
    /// Names on the way down.
    pub path: Vec<String>,
    pub format: Format,
    /// The format was found in `Accept`, not in the query.
    pub negotiated: bool,
    pub filename: Option<String>,
    pub only_if_cached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Car(Car),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Car {
    pub scope: Scope,
    pub bytes: Option<EntityBytes>,
    /// Send a block each time it occurs.
    pub dups: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Block,
    Entity,
    All,
}

/// Both inclusive; negative ones count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityBytes {
    pub from: i64,
    pub to: Option<i64>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Bad(String),
    /// Only verifiable formats are served.
    NotAcceptable(String),
}

impl Request {
    /// Reads what follows `/ipfs/`.
    pub fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let rest = uri.path().strip_prefix("/ipfs/").unwrap_or_default();
        let (cid, path) = rest.split_once('/').unwrap_or((rest, ""));
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let (format, negotiated) = format(&query, headers, cid == PROBE)?;
        Ok(Self {
            root: read_cid(cid)?,
            path: read_path(path)?,
            format,
            negotiated,
            filename: query.get("filename").map(str::to_owned),
            only_if_cached: header_values(headers, header::CACHE_CONTROL)
                .any(|value| value.eq_ignore_ascii_case("only-if-cached")),
        })
    }
}

fn read_cid(text: &str) -> Result<Cid, Refusal> {
    let bad = |reason: &str| Refusal::Bad(format!("the path has no CID: {reason}"));
    if text.len() > MAX_CID_TEXT {
        return Err(bad("it is too long"));
    }
    let cid: Cid = text.parse().map_err(|error: cid::Error| bad(&error.to_string()))?;
    // Of inline blocks, those that a store would refuse.
    if cid.hash().code() == tabpeer::content::block::IDENTITY && Block::inline(&cid).is_none() {
        return Err(bad("its inline block is too long"));
    }
    Ok(cid)
}

fn read_path(path: &str) -> Result<Vec<String>, Refusal> {
    let bad = |reason: &str| Refusal::Bad(format!("the path cannot be used: {reason}"));
    if path.len() > 3 * MAX_PATH {
        return Err(bad("it is too long"));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').take(MAX_PARTS + 1).collect();
    if parts.len() > MAX_PARTS {
        return Err(bad("it has too many parts"));
    }
    let read = |part: &&str| {
        let name = decode_percent(part).ok_or_else(|| bad("it is not UTF-8"))?;
        check_name(&name).map_err(|reason| bad(&reason.to_string()))?;
        Ok(name.into_owned())
    };
    parts.iter().map(read).collect()
}

fn format(query: &Query, headers: &HeaderMap, probe: bool) -> Result<(Format, bool), Refusal> {
    let not_acceptable = |what: &str| {
        Refusal::NotAcceptable(format!(
            "{what} is not served here: this gateway is trustless. Ask for format=raw or format=car"
        ))
    };
    let accepted = accepted(headers);
    if let Some(format) = query.get("format") {
        return match format {
            "raw" => Ok((Format::Raw, false)),
            "car" => {
                let car = accepted.iter().find(|media| media.is_car());
                Ok((Format::Car(car_of(query, car)?), false))
            }
            other => Err(not_acceptable(other)),
        };
    }
    for media in &accepted {
        if media.name == "application/vnd.ipld.raw" {
            return Ok((Format::Raw, true));
        }
        if media.is_car()
            && let Ok(car) = car_of(query, Some(media))
        {
            return Ok((Format::Car(car), true));
        }
    }
    match () {
        () if probe => Ok((Format::Raw, true)),
        () if headers.get(header::ACCEPT).is_none() => {
            let message = "say which format you want: format=raw or format=car";
            Err(Refusal::Bad(message.into()))
        }
        () => Err(not_acceptable("what the header `Accept` asks for")),
    }
}

/// The parameters of a CAR: those of the query go before those of the media type.
fn car_of(query: &Query, media: Option<&Media>) -> Result<Car, Refusal> {
    let bad = |name: &str, value: &str| Refusal::Bad(format!("{name}={value} is not supported"));
    let parameter = |name: &str| {
        let of_media = || media.and_then(|media| media.parameter(name));
        query.get(&format!("car-{name}")).or_else(of_media)
    };
    match parameter("version") {
        None | Some("1") => {}
        Some(other) => {
            return Err(Refusal::NotAcceptable(format!("CAR version {other} is not served here")));
        }
    }
    match parameter("order") {
        None | Some("" | "dfs" | "unk") => {}
        Some(other) => {
            return Err(Refusal::NotAcceptable(format!("CAR order {other} is not served here")));
        }
    }
    let dups = match parameter("dups") {
        None | Some("n") => false,
        Some("y") => true,
        Some(other) => return Err(bad("dups", other)),
    };
    let bytes = query.get("entity-bytes").map(EntityBytes::parse).transpose()?;
    let scope = match query.get("dag-scope") {
        _ if bytes.is_some() => Scope::Entity,
        None | Some("all") => Scope::All,
        Some("entity") => Scope::Entity,
        Some("block") => Scope::Block,
        Some(other) => return Err(bad("dag-scope", other)),
    };
    Ok(Car { scope, bytes, dups })
}

impl EntityBytes {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::Bad(format!("entity-bytes={text} is not FROM:TO"));
        let (from, to) = text.split_once(':').ok_or_else(bad)?;
        let from = from.parse().map_err(|_| bad())?;
        let to = match to {
            "*" => None,
            to => Some(to.parse().map_err(|_| bad())?),
        };
        Ok(Self { from, to })
    }
}

impl std::fmt::Display for EntityBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to {
            Some(to) => write!(f, "{}:{to}", self.from),
            None => write!(f, "{}:*", self.from),
        }
    }
}

/// The parameters of a query, decoded.
struct Query<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

impl<'q> Query<'q> {
    fn parse(query: &'q str) -> Result<Self, Refusal> {
        let decode = |text| {
            decode_percent(text).ok_or_else(|| Refusal::Bad("the query is not UTF-8".into()))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(MAX_LISTED);
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_ref())
    }
}

/// A media type of `Accept`.
struct Media {
    name: String,
    parameters: Vec<(String, String)>,
    /// In thousandths.
    quality: u16,
}

impl Media {
    fn is_car(&self) -> bool {
        self.name == "application/vnd.ipld.car"
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What is accepted, the most wanted first.
fn accepted(headers: &HeaderMap) -> Vec<Media> {
    let mut accepted: Vec<Media> =
        header_values(headers, header::ACCEPT).take(MAX_LISTED).map(read_media).collect();
    accepted.retain(|media| media.quality > 0);
    accepted.sort_by_key(|media| std::cmp::Reverse(media.quality));
    accepted
}

fn read_media(text: &str) -> Media {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mut media = Media { name, parameters: Vec::new(), quality: 1000 };
    for (name, value) in parts.filter_map(|part| part.split_once('=')).take(MAX_LISTED) {
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        if name == "q" {
            let quality: f32 = value.parse().unwrap_or_default();
            media.quality = (quality.clamp(0.0, 1.0) * 1000.0) as u16;
        } else {
            media.parameters.push((name, value.to_owned()));
        }
    }
    media
}

/// The comma-separated values of all headers of this name.
pub fn header_values(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

/// `None` if it is not UTF-8. A `%` without two digits stands for itself.
fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn parse(rest: &str, accept: Option<&str>) -> Result<Request, Refusal> {
        let uri: Uri = format!("/ipfs/{rest}").parse().expect("a URI");
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        }
        Request::parse(&uri, &headers)
    }

    fn car(rest: &str, accept: &str) -> Car {
        match parse(rest, Some(accept)).expect("a request").format {
            Format::Car(car) => car,
            Format::Raw => panic!("raw"),
        }
    }

    #[test]
    fn the_query_goes_before_the_header() {
        let all = Car { scope: Scope::All, bytes: None, dups: false };
        let accept = "application/vnd.ipld.car; version=1; order=dfs; dups=y";
        assert_eq!(car(CID, accept), Car { dups: true, ..all });
        assert_eq!(car(&format!("{CID}?car-dups=n"), accept), all);
        assert_eq!(car(&format!("{CID}?format=car"), "text/html"), all);
        assert_eq!(
            parse(&format!("{CID}?format=raw"), Some(accept)).map(|r| r.format),
            Ok(Format::Raw)
        );
        let both = "application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car;order=other, application/vnd.ipld.car;q=0.9";
        assert_eq!(car(CID, both), all);
        let entity = car(&format!("{CID}?format=car&dag-scope=all&entity-bytes=-5%3A*"), "*/*");
        assert_eq!(entity.scope, Scope::Entity);
        assert_eq!(entity.bytes, Some(EntityBytes { from: -5, to: None }));
    }

    #[test]
    fn what_makes_no_sense_is_bad_and_what_is_not_served_is_not_acceptable() {
        let bad = |rest: &str| matches!(parse(rest, Some("*/*")), Err(Refusal::Bad(_)));
        for rest in [
            "?format=raw",
            "nonsense?format=raw",
            &format!("{CID}/..?format=car"),
            &format!("{CID}/a/%2e%2e/b?format=car"),
            &format!("{CID}/a//b?format=car"),
            &format!("{CID}/a%2Fb?format=car"),
            &format!("{CID}/a%00?format=car"),
            &format!("{CID}/%ff?format=car"),
            &format!("{CID}/{}?format=car", "a/".repeat(100)),
            &format!("{CID}?format=car&dag-scope=some"),
            &format!("{CID}?format=car&entity-bytes=5"),
            &format!("{CID}?format=car&entity-bytes=a:b"),
            &format!("{CID}?format=car&entity-bytes=0:99999999999999999999"),
            &format!("{CID}?format=car&car-dups=maybe"),
            &format!("{}?format=raw", "b".repeat(400)),
        ] {
            assert!(bad(rest), "{rest}: {:?}", parse(rest, Some("*/*")));
        }
        for (rest, accept) in [
            (CID.to_owned(), "*/*"),
            (CID.to_owned(), "text/html"),
            (format!("{CID}?format=dag-json"), "*/*"),
            (format!("{CID}?format=tar"), "application/vnd.ipld.raw"),
            (format!("{CID}?format=car&car-version=2"), "*/*"),
            (CID.to_owned(), "application/vnd.ipld.car;version=2"),
            (CID.to_owned(), "application/vnd.ipld.raw;q=0"),
        ] {
            let refused = parse(&rest, Some(accept));
            assert!(
                matches!(refused, Err(Refusal::NotAcceptable(_))),
                "{rest} {accept}: {refused:?}"
            );
        }
        assert!(matches!(parse(CID, None), Err(Refusal::Bad(_))));
        assert_eq!(parse(PROBE, None).map(|request| request.format), Ok(Format::Raw));
    }

    #[test]
    fn paths_are_decoded_once() {
        let request = parse(&format!("{CID}/a%20b/%2525/?format=car&filename=x%26y"), None);
        let request = request.expect("a request");
        assert_eq!(request.path, ["a b", "%25"]);
        assert_eq!(request.filename.as_deref(), Some("x&y"));
        assert!(parse(&format!("{CID}/100%?format=car"), None).is_ok());
    }
}
