//! Exclusive locks within this process: enough for databases in memory.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::platform::LockError;

static HELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    name: String,
}

impl Lock {
    /// The lock `name`, or `None` if somebody in this process holds it.
    pub async fn try_acquire(name: &str) -> Result<Option<Self>, LockError> {
        Ok(held().insert(name.to_owned()).then(|| Self { name: name.to_owned() }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        held().remove(&self.name);
    }
}

fn held() -> MutexGuard<'static, BTreeSet<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
