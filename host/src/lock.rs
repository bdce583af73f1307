//! Locking, in one way for the whole program: past a poisoned mutex.
//!
//! What a mutex guards here is whole between any two statements, so a panic of whoever held it, which
//! is a mistake of ours, has left nothing half changed. Going on serves more people than ending would.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
