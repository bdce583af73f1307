//! Discovery: how clients and subworkers find the control plane.
//!
//! The control plane says `WORKER_ANNOUNCE:{id}:{base address}` on a bus, every two seconds and
//! to everybody who joins. Whoever looks for it takes the newest announcement.

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

/// How often the control plane announces itself.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

const PREFIX: &str = "WORKER_ANNOUNCE:";

/// Who is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The control plane's worker id.
    pub worker_id: String,
    /// Its base address.
    pub base_address: Address,
}

impl Announcement {
    /// As it is said on the bus.
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

/// Hears announcements for as long as it lives.
pub struct Discovery {
    heard: Arc<Heard>,
    _subscriber: Box<dyn Subscriber>,
}

#[derive(Default)]
struct Heard {
    newest: Mutex<Option<Announcement>>,
    notify: Notify,
}

impl Heard {
    fn newest(&self) -> MutexGuard<'_, Option<Announcement>> {
        lock(&self.newest)
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Discovery").field(&*self.heard.newest()).finish()
    }
}

impl Discovery {
    /// Dials a bus, in the background.
    ///
    /// # Errors
    /// [`OpenError`] when the address makes no sense.
    pub fn listen(transport: &dyn Transport, address: &Address) -> Result<Self, OpenError> {
        let heard = Arc::new(Heard::default());
        let board = Arc::clone(&heard);
        let subscriber = transport.subscriber(
            &address.to_string(),
            Box::new(move |message| {
                if let Some(announcement) = Announcement::read(message) {
                    *board.newest() = Some(announcement);
                    board.notify.notify_waiters();
                }
            }),
        )?;
        Ok(Self { heard, _subscriber: subscriber })
    }

    /// The newest announcement, if one was heard.
    pub fn newest(&self) -> Option<Announcement> {
        self.heard.newest().clone()
    }

    /// Waits for the first announcement, without an end.
    pub async fn first(&self) -> Announcement {
        self.until(Option::clone).await
    }

    /// Waits until another base address is announced at a moment when `is_lost`, without an end.
    pub async fn elsewhere(&self, base: &Address, is_lost: impl Fn() -> bool) -> Announcement {
        let elsewhere = |heard: &Option<Announcement>| heard.clone().filter(|it| it.base_address != *base);
        self.until(|heard| elsewhere(heard).filter(|_| is_lost())).await
    }

    /// Waits for the next announcement, without an end.
    pub async fn next(&self) {
        self.heard.notify.notified().await;
    }

    /// Waits for what `look` finds, now or at a later announcement.
    async fn until<T>(&self, look: impl Fn(&Option<Announcement>) -> Option<T>) -> T {
        loop {
            let arrived = self.heard.notify.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that what comes between is not missed.
            arrived.as_mut().enable();
            let found = look(&self.heard.newest());
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
    fn an_announcement_reads_what_it_says_and_nothing_else() {
        let announcement =
            Announcement { worker_id: "cp".into(), base_address: "tcp://127.0.0.1:15555".parse().expect("an address") };
        assert_eq!(announcement.to_message(), b"WORKER_ANNOUNCE:cp:tcp://127.0.0.1:15555");
        assert_eq!(Announcement::read(&announcement.to_message()), Some(announcement));
        assert_eq!(Announcement::read(b"WORKER_ANNOUNCE:cp"), None);
        assert_eq!(Announcement::read(b"\xff"), None);
    }
}
