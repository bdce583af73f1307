//! Locking, in one way for the whole program: past a poisoned lock.
//!
//! What a lock guards here is whole between any two statements, so a panic of whoever held it, which
//! is a mistake of ours, has left nothing half changed. Going on serves more people than ending would.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a mutex if nobody holds it at this moment.
#[cfg(feature = "runtime")]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// Locks to read.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks to write.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a call, which may also come unasked for.
#[cfg(feature = "runtime")]
pub(crate) fn wait<'a, T>(called: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    called.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a call, which may also come unasked for, at most `limit`. Tells whether it was too long.
pub(crate) fn wait_timeout<'a, T>(
    called: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
) -> (MutexGuard<'a, T>, bool) {
    let (guard, waited) = called.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
    (guard, waited.timed_out())
}

/// What was in a mutex that is needed no more.
#[cfg(feature = "runtime")]
pub(crate) fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
