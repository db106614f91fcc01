//! A stored file as a stream: the pure reader, fed from the store in windows of blocks.

use bytes::Bytes;
use futures::stream;

use super::{ByteStream, convert};
use crate::{
    content::{
        block::Cid,
        read::{ReadStep, Reader},
    },
    error::Result,
    platform::MaybeSend,
    store::Store,
};

/// Blocks asked of the store at a time: with 1 MiB leaves, how much is held while reading.
const WINDOW: usize = 4;

/// The bytes of `root` in order. An item that is an error ends the stream.
pub(crate) fn read(store: Store, root: Cid) -> ByteStream {
    let start = Reading { store, reader: Reader::new(root, None) };
    boxed(stream::try_unfold(start, |mut reading| async move {
        let piece = reading.next().await?;
        Ok(piece.map(|bytes| (bytes, reading)))
    }))
}

struct Reading {
    store: Store,
    reader: Reader,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.reader.next() {
                ReadStep::Bytes(bytes) => return Ok(Some(bytes)),
                ReadStep::Done => return Ok(None),
                ReadStep::Wait => {
                    let wants = self.reader.wants(WINDOW);
                    for (cid, block) in wants.iter().zip(self.store.get_many(&wants).await?) {
                        let block = block.ok_or_else(|| convert::missing(cid))?;
                        self.reader.supply(&block).map_err(|error| convert::read_error(*cid, &error))?;
                    }
                }
            }
        }
    }
}

fn boxed(stream: impl futures::Stream<Item = Result<Bytes>> + MaybeSend + 'static) -> ByteStream {
    Box::pin(stream)
}
