//! Follows the control plane's modules: takes each new version, and reports it to the reloader.
//!
//! One module is transferred at a time, the smallest first, one part after the other: a worker never has more than one
//! part in flight. Between parts the list is requested again, so that a long transfer delays nothing else for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    REPLY_TIMEOUT, ShutdownFlags, WorkerRegistration,
    taken::{TakenChange, TakenModules, TakenSender, taken_path},
};
use crate::{
    clock::pause,
    lock::lock,
    protocol::{ModuleList, ModulesQuery, OfferedModule, WORK_WAIT, WorkerReply, WorkerRequest},
    runtime::{
        Change, Content, ModuleError, ModuleStore, TransferError, WatcherHandle, lower_thread_priority, module_name,
    },
    subworker::{ModuleFilter, link::WorkConnection},
};

mod transfer;

use transfer::TransferEnd;

/// Delay before a request is repeated.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Interval at which the thread checks whether the worker has registered again.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time without a request for the list while modules are transferred.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// First and maximum delay before a transfer that failed is repeated. It doubles with each failure.
const FAILURE_DELAY_MIN: Duration = Duration::from_secs(10);
const FAILURE_DELAY_MAX: Duration = Duration::from_mins(5);

/// The thread that follows the control plane's modules.
pub(in crate::subworker::worker) struct Follower {
    registration: Arc<WorkerRegistration>,
    shutdown: Arc<ShutdownFlags>,
    store: Arc<ModuleStore>,
    filter: ModuleFilter,
    /// Time for which a module may be missing before it is dropped.
    grace: Duration,
    /// Maximum size of a module in bytes.
    module_max: u64,
    sender: TakenSender,
    reloader: WatcherHandle,
    list: FollowedList,
}

/// The list of modules, as far as the follower has it.
#[derive(Default)]
struct FollowedList {
    /// The version of the last list.
    version: u64,
    /// When it was requested last.
    requested: Option<Instant>,
    /// Whether it has all modules with which the control plane was started.
    is_complete: bool,
    /// Whether it was reported that all modules of the first complete list were taken.
    is_complete_reported: bool,
    modules: BTreeMap<PathBuf, FollowedModule>,
}

/// A module of the list.
struct FollowedModule {
    content: Content,
    /// Its hash in hexadecimal.
    hash: String,
    size: u64,
    progress: Progress,
    /// Whether it is on the last list. A control plane that was restarted lists it once it has loaded it.
    is_listed: bool,
    /// Since when it is not on a complete list any more.
    absent_since: Option<Instant>,
}

/// The progress of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// To be transferred.
    Pending,
    /// Transferred.
    Complete,
    /// It cannot be transferred: when to try again, and the number of failures.
    Failed { retry_at: Instant, failures: u32 },
}

impl FollowedModule {
    fn is_due(&self, now: Instant) -> bool {
        self.is_listed
            && match self.progress {
                Progress::Pending => true,
                Progress::Complete => false,
                Progress::Failed { retry_at, .. } => retry_at <= now,
            }
    }
}

impl Follower {
    /// Creates a follower that has no list yet, and the reloader's side of it. `grace` is the time for which a module
    /// may be missing, `module_max` the maximum size of one in bytes.
    pub(super) fn new(
        store: Arc<ModuleStore>,
        filter: ModuleFilter,
        (registration, shutdown): (Arc<WorkerRegistration>, Arc<ShutdownFlags>),
        (grace, module_max): (Duration, u64),
        reloader: WatcherHandle,
    ) -> (TakenModules, Self) {
        let (taken, sender) = TakenModules::new(Arc::clone(&store));
        let list = FollowedList::default();
        (taken, Self { registration, shutdown, store, filter, grace, module_max, sender, reloader, list })
    }

    /// Follows until the worker drains or the reloader has ended.
    pub(in crate::subworker::worker) fn run(mut self) {
        lower_thread_priority();
        let registration = Arc::clone(&self.registration);
        let mut connection = registration.link().connect();
        while !self.shutdown.is_draining() {
            let Some(key) = registration.current_key() else {
                pause(CHECK_INTERVAL);
                continue;
            };
            if self.step(key, &mut *connection).is_err() {
                debug!("the reloader has ended: no more modules are taken from the control plane");
                return;
            }
        }
    }

    /// Requests the list if it is time, and transfers a module, or a part of a large one.
    ///
    /// # Errors
    /// When the reloader has ended.
    fn step(&mut self, key: Uuid, connection: &mut dyn WorkConnection) -> Result<(), Ended> {
        self.recheck_damaged();
        self.drop_absent()?;
        let next = self.next_due();
        let is_list_due = self.list.requested.is_none_or(|at| at.elapsed() >= LIST_INTERVAL);
        if next.is_none() || is_list_due {
            let wait = if next.is_none() { self.wait_time() } else { Duration::ZERO };
            return self.request_list(key, wait, connection);
        }
        if let Some(path) = next {
            self.take(key, path, connection)?;
        }
        self.report_complete()
    }

    /// Marks modules whose stored bytes are damaged.
    fn recheck_damaged(&mut self) {
        for path in std::mem::take(&mut *lock(&self.sender.damaged)) {
            if let Some(module) = self.list.modules.get_mut(&path) {
                module.progress = Progress::Pending;
            }
        }
    }

    /// The smallest module that is to be transferred now.
    fn next_due(&self) -> Option<PathBuf> {
        let now = Instant::now();
        let due = self.list.modules.iter().filter(|(_, module)| module.is_due(now));
        due.min_by_key(|(_, module)| module.size).map(|(path, _)| path.clone())
    }

    /// How long to wait for another list: until something else is to be done.
    fn wait_time(&self) -> Duration {
        let now = Instant::now();
        let times = self.list.modules.values().filter_map(|module| match (module.absent_since, module.progress) {
            (Some(since), _) => Some(since + self.grace),
            (None, Progress::Failed { retry_at, .. }) if module.is_listed => Some(retry_at),
            (None, _) => None,
        });
        times.min().map_or(WORK_WAIT, |at| at.saturating_duration_since(now).clamp(CHECK_INTERVAL, WORK_WAIT))
    }

    fn request_list(&mut self, key: Uuid, wait: Duration, connection: &mut dyn WorkConnection) -> Result<(), Ended> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = WorkerRequest::Modules(ModulesQuery { worker: key, known: self.list.version, wait_ms });
        match connection.request(&request, wait + self.registration.link().reply_grace(), &mut || {}) {
            Ok(WorkerReply::Modules(list)) => self.apply(list)?,
            // It has not changed.
            Ok(WorkerReply::Noted) => {}
            Ok(WorkerReply::Unknown) => {
                return {
                    self.wait_for_other_key(key);
                    Ok(())
                };
            }
            Ok(other) => {
                warn!(?other, "unexpected reply to the request for the control plane's modules, retrying");
                return {
                    pause(RETRY_DELAY);
                    Ok(())
                };
            }
            Err(error) => {
                debug!(%error, "no list of the control plane's modules, retrying");
                return {
                    pause(RETRY_DELAY);
                    Ok(())
                };
            }
        }
        self.list.requested = Some(Instant::now());
        self.report_complete()
    }

    /// Waits until the worker has registered again, with a control plane whose list may differ.
    fn wait_for_other_key(&mut self, key: Uuid) {
        self.list.requested = None;
        while !self.shutdown.is_draining() && self.registration.current_key().is_none_or(|now| now == key) {
            pause(CHECK_INTERVAL);
        }
    }

    /// Applies a list that differs from the last one.
    fn apply(&mut self, list: ModuleList) -> Result<(), Ended> {
        let mut offered = BTreeMap::new();
        let mut names = BTreeSet::new();
        for OfferedModule { path: offered_path, hash, size } in list.modules {
            let content = blake3::Hash::from_hex(&hash).ok().filter(|_| hash.len() == 2 * blake3::OUT_LEN);
            let (Some(path), Some(content)) = (taken_path(&offered_path), content) else {
                warn!(path = offered_path, hash, "the control plane offers a module whose path or hash is not one");
                continue;
            };
            let name = module_name(&path);
            if self.filter.accepts(&name) {
                offered.insert(path, (Content::from(content), hash, size));
            }
            names.insert(name);
        }
        if !list.is_loading {
            self.log_missing(&names);
        }
        let paths = offered.keys().cloned();
        let kept = self.list.modules.keys().filter(|_| list.is_loading).cloned();
        self.sender.send(TakenChange::Offered(paths.chain(kept).collect()))?;
        for (path, module) in &mut self.list.modules {
            module.is_listed = offered.contains_key(path);
            // A control plane that still loads its modules may have it later.
            if !list.is_loading && !module.is_listed {
                module.absent_since.get_or_insert_with(Instant::now);
            }
        }
        for (path, (content, hash, size)) in offered {
            if let Some(module) = self.list.modules.get_mut(&path).filter(|module| module.content == content) {
                module.absent_since = None;
            } else {
                self.sender.send(TakenChange::Announced(path.clone()))?;
                let (progress, is_listed, absent_since) = (Progress::Pending, true, None);
                let module = FollowedModule { content, hash, size, progress, is_listed, absent_since };
                self.list.modules.insert(path, module);
            }
        }
        (self.list.version, self.list.is_complete) = (list.version, !list.is_loading);
        self.reloader.wake();
        Ok(())
    }

    /// Logs which modules the control plane does not have.
    fn log_missing(&self, names: &BTreeSet<String>) {
        let worker = &self.registration.identity().worker_id;
        let missing = self.filter.missing(names).join(", ");
        if names.is_empty() {
            warn!(worker, "the control plane has no modules: they are taken from it once it has some");
        } else if !missing.is_empty() {
            let has = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            warn!(
                worker,
                missing, has, "the control plane has no modules of these names: they are taken once it has them"
            );
        }
    }

    /// Drops the modules that were removed from the control plane.
    fn drop_absent(&mut self) -> Result<(), Ended> {
        let grace = self.grace;
        let is_over = |module: &FollowedModule| module.absent_since.is_some_and(|since| since.elapsed() >= grace);
        let dropped: Vec<PathBuf> =
            self.list.modules.extract_if(.., |_, module| is_over(module)).map(|(path, _)| path).collect();
        for path in dropped {
            self.sender.send(TakenChange::Change(Change::Dropped(path)))?;
            self.reloader.wake();
        }
        Ok(())
    }

    /// Takes a module from the store, or transfers it, or a part of it.
    fn take(&mut self, key: Uuid, path: PathBuf, connection: &mut dyn WorkConnection) -> Result<(), Ended> {
        let Some(module) = self.list.modules.get(&path) else { return Ok(()) };
        let failures = match module.progress {
            Progress::Failed { failures, .. } => failures + 1,
            Progress::Pending | Progress::Complete => 1,
        };
        match self.transfer(key, module, connection) {
            TransferEnd::Complete => return self.report(path, Progress::Complete, None),
            TransferEnd::Failed(error) => return self.report(path, failed(failures), Some(error)),
            TransferEnd::Interrupted => {}
            TransferEnd::Unregistered => self.wait_for_other_key(key),
            TransferEnd::NoReply => pause(RETRY_DELAY),
            TransferEnd::Gone => {
                self.list.requested = None;
                if failures > 1 {
                    return self.report(path, failed(failures), Some(TransferError::Gone));
                }
                // The next list probably has another version.
                if let Some(module) = self.list.modules.get_mut(&path) {
                    module.progress = Progress::Failed { retry_at: Instant::now() + RETRY_DELAY, failures };
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, path: PathBuf, progress: Progress, error: Option<TransferError>) -> Result<(), Ended> {
        let Some(module) = self.list.modules.get_mut(&path) else { return Ok(()) };
        module.progress = progress;
        if error.is_none() {
            let (worker, name, bytes) = (&self.registration.identity().worker_id, module_name(&path), module.size);
            info!(worker, module = name, bytes, "module taken from the control plane");
        }
        let content = module.content;
        let change = Change::New(path, error.map_or(Ok(content), |error| Err(ModuleError::Transfer(error))));
        self.sender.send(TakenChange::Change(change))?;
        self.reloader.wake();
        Ok(())
    }

    /// Reports once that all modules of the start were taken or cannot be.
    fn report_complete(&mut self) -> Result<(), Ended> {
        let is_pending = self.list.modules.values().any(|module| module.progress == Progress::Pending);
        if self.list.is_complete && !is_pending && !self.list.is_complete_reported {
            self.list.is_complete_reported = true;
            self.sender.send(TakenChange::Complete)?;
            self.reloader.wake();
        }
        Ok(())
    }
}

/// The progress of a module that could not be transferred this many times.
fn failed(failures: u32) -> Progress {
    let delay = FAILURE_DELAY_MIN.saturating_mul(1 << failures.min(10).saturating_sub(1));
    Progress::Failed { retry_at: Instant::now() + delay.min(FAILURE_DELAY_MAX), failures }
}

/// The reloader has ended.
#[derive(Debug)]
struct Ended;

impl TakenSender {
    fn send(&self, change: TakenChange) -> Result<(), Ended> {
        self.changes.send(change).map_err(|_| Ended)
    }
}
