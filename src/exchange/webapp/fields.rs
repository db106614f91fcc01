//! The fields of a file's content (type 3): their bounds, which of them have been seen, and what
//! they must add up to.

use std::borrow::Cow;

use super::content::ContentDone;
use super::json::{self, Entries};
use super::{
    MAX_ENTRIES_JSON, MAX_ERROR_JSON, MAX_ERROR_TEXT, MAX_PATH, MAX_SHORT_FIELD, MAX_UNKNOWN,
    WireError,
};

/// A field by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Cid,
    IsDirectory,
    RawNode,
    Content,
    MimeType,
    Entries,
    Error,
    Unknown,
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct FieldSet {
    /// A bit for each known field whose name has come.
    seen: u8,
    raw_node: bool,
    unknown: usize,
    cid: Option<String>,
    done: ContentDone,
}

impl Field {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "cid" => Self::Cid,
            "isDirectory" => Self::IsDirectory,
            "rawNode" => Self::RawNode,
            "content" => Self::Content,
            "mimeType" => Self::MimeType,
            "entries" => Self::Entries,
            "error" => Self::Error,
            _ => Self::Unknown,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cid => "cid",
            Self::IsDirectory => "isDirectory",
            Self::RawNode => "rawNode",
            Self::Content => "content",
            Self::MimeType => "mimeType",
            Self::Entries => "entries",
            Self::Error => "error",
            Self::Unknown => "an unknown field",
        }
    }

    /// Whether the field is base64 that is decoded as it arrives.
    pub(super) fn is_streamed(self) -> bool {
        matches!(self, Self::RawNode | Self::Content)
    }
}

impl FieldSet {
    /// Notes that a field's name has come.
    pub(super) fn begin(&mut self, name: &str) -> Result<Field, WireError> {
        let field = Field::of(name);
        if field != Field::Unknown {
            let bit = 1 << field as u8;
            if self.seen & bit != 0 {
                return Err(WireError::DuplicateField { field: field.name() });
            }
            self.seen |= bit;
        }
        Ok(field)
    }

    /// Most bytes of JSON that the field's value may have.
    pub(super) fn room(&self, field: Field) -> usize {
        match field {
            Field::Entries => MAX_ENTRIES_JSON,
            Field::Error => MAX_ERROR_JSON,
            Field::Unknown => MAX_UNKNOWN - self.unknown,
            // A streamed field only comes here when it is not a string, hence null or wrong.
            _ => MAX_SHORT_FIELD,
        }
    }

    /// Takes a value that has been collected whole. `null` is as good as no field.
    pub(super) fn set(&mut self, field: Field, text: &[u8]) -> Result<(), WireError> {
        let what = field.name();
        match field {
            Field::Cid => {
                let text: Option<Cow<str>> = json::parse(what, text)?;
                self.cid = text.map(Cow::into_owned);
            }
            Field::IsDirectory => {
                let value: Option<bool> = json::parse(what, text)?;
                self.done.is_directory = value.unwrap_or_default();
            }
            Field::MimeType => {
                let value: Option<String> = json::parse(what, text)?;
                self.done.mime_type = value.and_then(json::mime);
            }
            Field::Error => {
                let value: Option<String> = json::parse(what, text)?;
                self.done.error = value.map(|text| json::clean(&text, MAX_ERROR_TEXT));
            }
            Field::Entries => {
                let entries: Entries<Cow<str>> = json::parse(what, text)?;
                let entries = entries.0.into_iter().map(|(name, cid)| {
                    json::check_name(&name, MAX_PATH)?;
                    Ok((name, json::cid("an entry's cid", &cid)?))
                });
                self.done.entries = Some(entries.collect::<Result<_, WireError>>()?);
            }
            Field::RawNode | Field::Content => json::parse::<()>(what, text)?,
            Field::Unknown => {
                self.unknown += text.len();
                json::parse::<serde::de::IgnoredAny>(what, text)?;
            }
        }
        Ok(())
    }

    /// Notes the end of a value that was handed out as it arrived.
    pub(super) fn streamed(&mut self, field: Field, len: u64) {
        match field {
            Field::Content => self.done.content_len = Some(len),
            _ => self.raw_node = true,
        }
    }

    /// The whole message, if its fields make sense together.
    pub(super) fn finish(&mut self) -> Result<ContentDone, WireError> {
        let mut done = std::mem::take(&mut self.done);
        let missing = |field| Err(WireError::MissingField { field });
        match &done {
            ContentDone { error: Some(_), .. } => {
                // A peer that was asked for nonsense repeats it here.
                done.cid = self.cid.take().and_then(|text| json::cid("cid", &text).ok());
                return Ok(done);
            }
            _ if !self.raw_node => return missing("rawNode"),
            ContentDone { is_directory: true, entries: None, .. } => return missing("entries"),
            ContentDone { is_directory: false, content_len: None, .. } => {
                return missing("content");
            }
            _ => {}
        }
        done.cid = self.cid.take().map(|text| json::cid("cid", &text)).transpose()?;
        Ok(done)
    }
}
