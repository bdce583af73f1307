//! Discovery: clients and subworkers find the control plane.
//!
//! The control plane announces `WORKER_ANNOUNCE:{id}:{base address}` on a bus, every two seconds and when a peer
//! connects. Peers use the newest announcement.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    config::Address,
    lock::lock,
    transport::{OpenError, Subscriber, Transport},
};

/// Interval between two announcements.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

const PREFIX: &str = "WORKER_ANNOUNCE:";

/// The address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The control plane's worker id.
    pub worker_id: String,
    /// Its base address.
    pub base_address: Address,
}

impl Announcement {
    /// Encodes it for the bus.
    pub fn to_message(&self) -> Vec<u8> {
        format!("{PREFIX}{}:{}", self.worker_id, self.base_address).into_bytes()
    }

    fn read(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        // An id has no colon, an address has.
        let (worker_id, address) = text.strip_prefix(PREFIX)?.split_once(':')?;
        Some(Self { worker_id: worker_id.to_owned(), base_address: Address::from_str(address).ok()? })
    }
}

/// Receives announcements until it is dropped.
pub struct Discovery {
    latest: Arc<Latest>,
    _subscriber: Box<dyn Subscriber>,
}

#[derive(Default)]
struct Latest {
    newest: Mutex<Option<Announcement>>,
    notify: Notify,
}

impl Latest {
    fn newest(&self) -> MutexGuard<'_, Option<Announcement>> {
        lock(&self.newest)
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Discovery").field(&*self.latest.newest()).finish()
    }
}

impl Discovery {
    /// Dials a bus, in the background.
    ///
    /// # Errors
    /// [`OpenError`] when the address is invalid.
    pub fn listen(transport: &dyn Transport, address: &Address) -> Result<Self, OpenError> {
        let latest = Arc::new(Latest::default());
        let shared = Arc::clone(&latest);
        let subscriber = transport.subscriber(
            &address.to_string(),
            Box::new(move |message| {
                if let Some(announcement) = Announcement::read(message) {
                    *shared.newest() = Some(announcement);
                    shared.notify.notify_waiters();
                }
            }),
        )?;
        Ok(Self { latest, _subscriber: subscriber })
    }

    /// Returns the newest announcement, if there was one.
    pub fn newest(&self) -> Option<Announcement> {
        self.latest.newest().clone()
    }

    /// Waits for the first announcement, without a timeout.
    pub async fn first(&self) -> Announcement {
        self.until(Option::clone).await
    }

    /// Waits until another base address than `base` is announced while `is_lost()`, without a timeout.
    pub async fn elsewhere(&self, base: &Address, is_lost: impl Fn() -> bool) -> Announcement {
        let elsewhere = |newest: &Option<Announcement>| newest.clone().filter(|it| it.base_address != *base);
        self.until(|newest| elsewhere(newest).filter(|_| is_lost())).await
    }

    /// Waits for the next announcement, without a timeout.
    pub async fn next(&self) {
        self.latest.notify.notified().await;
    }

    /// Waits until `find` returns a value for the newest announcement.
    async fn until<T>(&self, find: impl Fn(&Option<Announcement>) -> Option<T>) -> T {
        loop {
            let arrived = self.latest.notify.notified();
            tokio::pin!(arrived);
            // Registered before the check, so that an announcement in between is not missed.
            arrived.as_mut().enable();
            let found = find(&self.latest.newest());
            match found {
                Some(found) => return found,
                None => arrived.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_round_trip_and_invalid_ones_are_ignored() {
        let announcement =
            Announcement { worker_id: "cp".into(), base_address: "tcp://127.0.0.1:15555".parse().expect("an address") };
        assert_eq!(announcement.to_message(), b"WORKER_ANNOUNCE:cp:tcp://127.0.0.1:15555");
        assert_eq!(Announcement::read(&announcement.to_message()), Some(announcement));
        assert_eq!(Announcement::read(b"WORKER_ANNOUNCE:cp"), None);
        assert_eq!(Announcement::read(b"\xff"), None);
    }
}
