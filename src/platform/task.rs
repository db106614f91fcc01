//! Tasks that work on both platforms: tokio's natively, the page's event loop in a browser.

pub use n0_future::task::{JoinHandle, JoinSet};

use super::{BoxFuture, MaybeSend};

/// Runs `work` on its own. It is boxed first: what runs a task is large, and one copy of it for each
/// type of result is enough.
pub fn spawn<T: MaybeSend + 'static>(
    work: impl Future<Output = T> + MaybeSend + 'static,
) -> JoinHandle<T> {
    let work: BoxFuture<T> = Box::pin(work);
    n0_future::task::spawn(work)
}
