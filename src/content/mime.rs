//! MIME types: by file name, else by the first bytes (a selection from the WHATWG MIME Sniffing
//! Standard, section 7 "Identifying a resource with an unknown MIME type").
//!
//! A table of our own, as the usual crate's has 1400 entries and a crate for the names of types
//! below it: most of 50 KB in a page that needs a tenth of it.

/// How many first bytes [`sniff`] looks at; giving it more changes nothing.
pub const SNIFF_LEN: usize = 512;
/// What bytes of no known kind are.
pub const BINARY: &str = "application/octet-stream";
/// What UTF-8 text of no known kind is.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Longest extension in [`EXTENSIONS`].
const MAX_EXTENSION: usize = 11;

/// The type of a file by name if that tells, else by its first bytes.
pub fn of(name: Option<&str>, head: &[u8]) -> &'static str {
    name.and_then(of_name).unwrap_or_else(|| sniff(head))
}

/// The type that the extension of a file name or path stands for, in either case.
pub fn of_name(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let mut lower = [0; MAX_EXTENSION];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    let at = EXTENSIONS.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    EXTENSIONS.get(at).map(|(_, mime)| *mime)
}

/// The type of data by its first bytes.
pub fn sniff(data: &[u8]) -> &'static str {
    let head = &data[..data.len().min(SNIFF_LEN)];
    let known = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, mime)| *mime);
    known
        .or_else(|| container(head))
        .or_else(|| markup(head))
        .unwrap_or(if is_text(head, data.len() > head.len()) { TEXT } else { BINARY })
}

/// Bytes that only one kind of data begins with.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x00asm", "application/wasm"),
    (b"ID3\x02", "audio/mpeg"),
    (b"ID3\x03", "audio/mpeg"),
    (b"ID3\x04", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
];

/// Formats that say what they hold a little further in.
fn container(head: &[u8]) -> Option<&'static str> {
    let at = |from: usize, len: usize| head.get(from..from + len);
    match (at(0, 4)?, at(8, 4)) {
        (b"RIFF", Some(b"WEBP")) => Some("image/webp"),
        (b"RIFF", Some(b"WAVE")) => Some("audio/wav"),
        (b"RIFF", Some(b"AVI ")) => Some("video/x-msvideo"),
        (b"OggS", _) => Some(if contains(head, b"\x80theora") { "video/ogg" } else { "audio/ogg" }),
        (b"\x1a\x45\xdf\xa3", _) if contains(head, b"webm") => Some("video/webm"),
        (b"\x1a\x45\xdf\xa3", _) if contains(head, b"matroska") => Some("video/x-matroska"),
        (_, Some(brand)) if at(4, 4) == Some(b"ftyp") => match brand {
            b"avif" | b"avis" => Some("image/avif"),
            b"heic" | b"heix" => Some("image/heic"),
            b"M4A " | b"M4B " => Some("audio/mp4"),
            b"qt  " => Some("video/quicktime"),
            _ => Some("video/mp4"),
        },
        _ => None,
    }
}

/// Tags that HTML begins with, as the standard lists them; each must end there.
const HTML_TAGS: &[&[u8]] = &[
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<script",
    b"<iframe",
    b"<h1",
    b"<div",
    b"<font",
    b"<table",
    b"<a",
    b"<style",
    b"<title",
    b"<b",
    b"<body",
    b"<br",
    b"<p",
];

fn markup(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.trim_ascii_start();
    let tag = |tag: &[u8]| {
        start.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag))
            && matches!(start.get(tag.len()), None | Some(b' ' | b'>' | b'\t' | b'\r' | b'\n'))
    };
    if HTML_TAGS.iter().any(|html| tag(html)) {
        return Some("text/html; charset=utf-8");
    }
    if tag(b"<svg") || (start.starts_with(b"<?xml") && contains(start, b"<svg")) {
        return Some("image/svg+xml");
    }
    if start.starts_with(b"<!--") {
        let html = contains(start, b"<html") || contains(start, b"<!DOCTYPE html");
        return html.then_some("text/html; charset=utf-8");
    }
    start.starts_with(b"<?xml").then_some("text/xml; charset=utf-8")
}

/// UTF-8 without the standard's "binary data bytes"; `cut` if more follows, so that the last
/// character may be incomplete.
fn is_text(head: &[u8], cut: bool) -> bool {
    let utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => cut && error.error_len().is_none(),
    };
    utf8 && !head.iter().any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Lower-case extensions, sorted. Text says its encoding, as Go's `mime` package has it, whose
/// answers p2p-webapp gives to its clients.
const EXTENSIONS: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("aif", "audio/aiff"),
    ("aiff", "audio/aiff"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("c", "text/plain; charset=utf-8"),
    ("car", "application/vnd.ipld.car"),
    ("cfg", "text/plain; charset=utf-8"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("conf", "text/plain; charset=utf-8"),
    ("cpp", "text/plain; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("diff", "text/plain; charset=utf-8"),
    ("dll", "application/octet-stream"),
    ("dmg", "application/x-apple-diskimage"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("env", "text/plain; charset=utf-8"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", "application/octet-stream"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("go", "text/plain; charset=utf-8"),
    ("gz", "application/gzip"),
    ("h", "text/plain; charset=utf-8"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("hpp", "text/plain; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("ini", "text/plain; charset=utf-8"),
    ("iso", "application/x-iso9660-image"),
    ("jar", "application/java-archive"),
    ("java", "text/plain; charset=utf-8"),
    ("jfif", "image/jpeg"),
    ("jpe", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonl", "application/x-ndjson"),
    ("jsonld", "application/ld+json"),
    ("jsx", "text/plain; charset=utf-8"),
    ("jxl", "image/jxl"),
    ("kt", "text/plain; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("lua", "text/plain; charset=utf-8"),
    ("m2ts", "video/mp2t"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("ndjson", "application/x-ndjson"),
    ("obj", "model/obj"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("patch", "text/plain; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("php", "text/plain; charset=utf-8"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("ps", "application/postscript"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("py", "text/plain; charset=utf-8"),
    ("rar", "application/vnd.rar"),
    ("rb", "text/plain; charset=utf-8"),
    ("rs", "text/plain; charset=utf-8"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("sh", "text/plain; charset=utf-8"),
    ("so", "application/octet-stream"),
    ("sql", "text/plain; charset=utf-8"),
    ("sqlite", "application/vnd.sqlite3"),
    ("srt", "application/x-subrip"),
    ("stl", "model/stl"),
    ("svg", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("swift", "text/plain; charset=utf-8"),
    ("tar", "application/x-tar"),
    ("text", "text/plain; charset=utf-8"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "text/plain; charset=utf-8"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("tsx", "text/plain; charset=utf-8"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "text/xml; charset=utf-8"),
    ("xsd", "text/xml; charset=utf-8"),
    ("xsl", "text/xml; charset=utf-8"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(EXTENSIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let longest = EXTENSIONS.iter().map(|(extension, _)| extension.len()).max();
        assert_eq!(longest, Some(MAX_EXTENSION));
        for (extension, mime) in EXTENSIONS {
            assert_eq!(of_name(&format!("x.{extension}")), Some(*mime));
            assert_eq!(*extension, extension.to_ascii_lowercase());
        }
    }

    #[test]
    fn names_tell_the_type_in_either_case() {
        for (name, mime) in [
            ("index.html", Some("text/html; charset=utf-8")),
            ("a/b.c/Photo.JPEG", Some("image/jpeg")),
            ("app.min.js", Some("text/javascript; charset=utf-8")),
            ("site.webmanifest", Some("application/manifest+json")),
            ("archive.tar.gz", Some("application/gzip")),
            ("README", None),
            ("x.", None),
            ("x.thisisnotanextension", None),
            ("a.png/noext", None),
            ("ü.ü", None),
        ] {
            assert_eq!(of_name(name), mime, "{name}");
        }
    }

    #[test]
    fn bytes_tell_the_type_where_the_name_does_not() {
        let long_text = "ü".repeat(SNIFF_LEN);
        for (head, mime) in [
            (&b"\x89PNG\r\n\x1a\n.."[..], "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
            (b"RIFF\x01\x02\x03\x04WAVEfmt ", "audio/wav"),
            (b"\0\0\0\x20ftypavif", "image/avif"),
            (b"\0\0\0\x20ftypisom", "video/mp4"),
            (b"\x1a\x45\xdf\xa3\x01B\x82\x84webm", "video/webm"),
            (b"OggS\0\x02........OpusHead", "audio/ogg"),
            (b"ID3\x04", "audio/mpeg"),
            (b"fLaC", "audio/flac"),
            (b"%PDF-1.7", "application/pdf"),
            (b"PK\x03\x04", "application/zip"),
            (b"\x1f\x8b\x08\0", "application/gzip"),
            (b"\0asm\x01\0\0\0", "application/wasm"),
            (b" \n<!DOCTYPE HTML>", "text/html; charset=utf-8"),
            (b"<html>", "text/html; charset=utf-8"),
            (b"<bar>", TEXT),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", "image/svg+xml"),
            (b"<?xml version='1.0'?>\n<svg>", "image/svg+xml"),
            (b"<?xml version='1.0'?><x/>", "text/xml; charset=utf-8"),
            (b"{\"a\": 1}", TEXT),
            (b"ID3 is a text here", TEXT),
            (b"", TEXT),
            (b"plain\twith\r\nlines \x1b[1m", TEXT),
            (b"nul\0", BINARY),
            (b"latin \xfc", BINARY),
            (b"cut \xc3", BINARY),
            (long_text.as_bytes(), TEXT),
            (&long_text.as_bytes()[1..], BINARY),
        ] {
            assert_eq!(sniff(head), mime, "{head:?}");
        }
        let mut cut = vec![b'a'; SNIFF_LEN - 1];
        cut.extend_from_slice("ü".as_bytes());
        assert_eq!(sniff(&cut), TEXT);
        assert_eq!(of(Some("x.png"), b"text"), "image/png");
        assert_eq!(of(Some("README"), b"text"), TEXT);
    }
}
