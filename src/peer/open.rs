//! Reading a file while it comes, or a range of it, and finding what is at a path.

use std::ops::Range;

use futures::stream;

use super::{
    ByteStream, FileInfo,
    incoming::{Incoming, Reading},
    read,
};
use crate::{
    content::{block::Block, mime},
    error::{Error, Result},
};

/// A file whose beginning is here. The rest comes as it is read; what has come is kept, and once all
/// of it has gone by, the file is stored whole. Dropping the reader ends the transfer.
pub struct FileReader {
    pub info: FileInfo,
    root: Block,
    reading: Reading,
}

impl FileReader {
    /// The bytes of `range`, cut to the file's size; of all of it without one. Nothing is fetched that
    /// the range does not need, nor faster than the stream is read.
    pub fn stream(self, range: Option<Range<u64>>) -> ByteStream {
        let start = self.reading.again(range, &self.root);
        Box::pin(stream::try_unfold(Some(start), |reading| async move {
            let Some(reading) = reading else { return Ok(None) };
            let mut reading = reading?;
            if let Some(bytes) = reading.next().await? {
                return Ok(Some((bytes, Some(Ok(reading)))));
            }
            if reading.is_whole() {
                reading.incoming().finish().await?;
            } else {
                reading.incoming().keep().await?;
            }
            Ok(None)
        }))
    }
}

/// Resolves as soon as the root and the first bytes are here.
pub(super) async fn open(mut incoming: Incoming) -> Result<FileReader> {
    let cid = incoming.root();
    let root = incoming.block(cid).await?;
    if read::is_directory(&root)? {
        return Err(Error::IsADirectory { path: cid.to_string() });
    }
    let mut reading = Reading::new(incoming, Some(0..mime::SNIFF_LEN as u64), &root)?;
    let head = reading.head().await?;
    let size = reading.size().unwrap_or_default();
    let mime_type = mime::sniff(&head).to_owned();
    let info = FileInfo { cid, size, mime_type, bytes: None };
    Ok(FileReader { info, root, reading })
}
