//! The modules that subworkers take from the control plane: the live ones of its own worker.
//!
//! The state has only their list; their bytes are read outside of its lock. Invariant: the list of a control plane that
//! still loads its modules only grows on its workers: they remove a module only for a complete list.

use std::time::Duration;

use uuid::Uuid;

use super::{Responder, State, Timer, WorkerKey};
use crate::{
    clock::Now,
    protocol::{ModuleList, ModulesQuery, OfferedModule, Refusal, RefusalCode, WORK_WAIT, WorkerReply},
    task::{ModuleInfo, ModuleStatus},
};

/// The list of modules, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfferedModules {
    modules: Vec<OfferedModule>,
    is_loading: bool,
    version: u64,
}

impl Default for OfferedModules {
    fn default() -> Self {
        Self::new(Vec::new(), false)
    }
}

impl OfferedModules {
    fn new(modules: Vec<OfferedModule>, is_loading: bool) -> Self {
        let version = version(&modules, is_loading);
        Self { modules, is_loading, version }
    }

    fn list(&self) -> ModuleList {
        ModuleList { version: self.version, is_loading: self.is_loading, modules: self.modules.clone() }
    }
}

impl<R: Responder> State<R> {
    /// Announces that the own worker of this control plane will load modules.
    pub fn expect_modules(&mut self) {
        self.set_offered(OfferedModules::new(Vec::new(), true));
    }

    /// Records that all modules of the start are loaded or refused: the list is complete from now on.
    pub fn modules_loaded(&mut self) {
        if self.offered.is_loading {
            self.set_offered(OfferedModules::new(self.offered.modules.clone(), false));
        }
    }

    /// Replies with the list of modules once it has another version than the worker knows.
    pub fn modules(&mut self, now: Now, query: &ModulesQuery, reply_to: R) {
        let key = WorkerKey(query.worker);
        // A repeated request replaces the one before it.
        self.reply_with_modules(key);
        let is_known = query.known == self.offered.version;
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        if !is_known {
            return self.reply_to_worker(reply_to, WorkerReply::Modules(self.offered.list()));
        }
        if query.wait_ms == 0 {
            return self.reply_to_worker(reply_to, WorkerReply::Noted);
        }
        let until = now.mono + WORK_WAIT.min(Duration::from_millis(query.wait_ms.into()));
        worker.module_query = Some((reply_to, query.known, until));
        self.timers.insert((until, Timer::ModuleListTimeout(key)));
    }

    /// Replies to a worker's parked request for the list, if there is one.
    pub(super) fn reply_with_modules(&mut self, key: WorkerKey) {
        let query = self.registry.get_mut(key).and_then(|worker| worker.module_query.take());
        let Some((reply_to, known, until)) = query else { return };
        self.timers.remove(&(until, Timer::ModuleListTimeout(key)));
        let is_known = known == self.offered.version;
        let reply = if is_known { WorkerReply::Noted } else { WorkerReply::Modules(self.offered.list()) };
        self.reply_to_worker(reply_to, reply);
    }

    /// Returns the version of the list of modules.
    pub fn modules_version(&self) -> u64 {
        self.offered.version
    }

    /// Returns the module with this hash, for a worker that takes a part of it.
    ///
    /// # Errors
    /// The reply: the worker is not known, or the module is not live any more.
    pub fn offered_module(&self, worker: Uuid, hash: &str) -> Result<OfferedModule, WorkerReply> {
        if self.registry.get(WorkerKey(worker)).is_none() {
            return Err(WorkerReply::Unknown);
        }
        self.offered.modules.iter().find(|module| module.hash == hash).cloned().ok_or_else(|| {
            let message = "no module with this hash runs on the control plane now";
            WorkerReply::Refused(Refusal::new(RefusalCode::NoSuchModule, message))
        })
    }

    /// Refuses a request for a part of a module, as there are none here.
    pub fn refuse_chunk(&mut self, reply_to: R) {
        self.refuse_worker(reply_to, RefusalCode::NoSuchModule, "this control plane has no modules");
    }

    /// Offers the live modules of the control plane's own worker. After that worker has left, as the control plane
    /// stops, they remain offered.
    pub(super) fn offer_modules(&mut self, now: Now, key: WorkerKey) {
        let Some(own) = self.registry.get(key).filter(|worker| worker.peer.is_none()) else { return };
        let is_live = |module: &&ModuleInfo| !module.hash.is_empty() && module.status != ModuleStatus::Leaving;
        let offered = |module: &ModuleInfo| OfferedModule {
            path: module.path.clone(),
            hash: module.hash.clone(),
            size: module.size,
        };
        let modules = own.modules().iter().filter(is_live).map(offered).collect();
        self.set_offered(OfferedModules::new(modules, self.offered.is_loading));
        self.serve_declared(now);
    }

    fn set_offered(&mut self, offered: OfferedModules) {
        if self.offered == offered {
            return;
        }
        self.offered = offered;
        let waiting = self.registry.iter().filter(|(_, worker)| worker.module_query.is_some());
        let waiting: Vec<WorkerKey> = waiting.map(|(key, _)| key).collect();
        for key in waiting {
            self.reply_with_modules(key);
        }
    }

    /// Lets the tasks of names that the own worker has but cannot run wait without a limit.
    fn serve_declared(&mut self, now: Now) {
        let declared: Vec<_> = self.unserved.keys().filter(|name| self.registry.is_declared(name)).cloned().collect();
        for name in declared {
            self.serve(now, &name);
        }
    }
}

/// Returns the version of a list; never 0.
fn version(modules: &[OfferedModule], is_loading: bool) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(is_loading)]);
    for OfferedModule { path, hash, size } in modules {
        for part in [path.as_bytes(), hash.as_bytes(), &size.to_be_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_be_bytes(first).max(1)
}
