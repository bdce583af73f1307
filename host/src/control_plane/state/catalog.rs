//! Changes of a worker's modules while it runs.
//!
//! The worker proposes its new catalog before it changes anything. It is applied in this one transition, or declined
//! with the reason: a change must not block a task that was accepted for the old modules.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Responder, State, TaskRecord, Timer, WorkerKey, schedules::schedule_specs};
use crate::{
    clock::Now,
    control_plane::events::NewEvent,
    json::Json,
    protocol::{CatalogChange, EventKind, Refusal, RefusalCode, WorkerReply},
    signature::Signature,
    task::{ModuleInfo, ModuleStatus},
};

/// Maximum number of waiting tasks that are checked for one change, shared evenly among the affected names, but at
/// least one of each. The state is locked during the check.
const CHECKED_MAX: usize = 10_000;
/// Maximum size of the arguments that are checked against changed signatures, in bytes. Others count as valid.
const CHECKED_BYTES_MAX: usize = 4 << 20;
/// Maximum number of scheduled tasks, and of leases, that are checked for one change.
const SCANNED_MAX: usize = 20_000;

/// A possible conflict of the new catalog with submitted tasks of one name.
enum CatalogConflict<'a> {
    /// No worker would serve the name.
    Removed,
    /// The name has another signature, which is compiled once there is a task to check.
    Changed(&'a Json, OnceCell<Signature>),
}

/// Tasks of one name that the new catalog could not run.
struct BlockedTasks<'a> {
    name: &'a str,
    count: usize,
    /// The reason for the first of them, if their arguments would be wrong.
    reason: Option<String>,
}

impl<R: Responder> State<R> {
    /// Applies the new catalog of a worker, or declines it if unfinished tasks could not run any more.
    pub fn change_catalog(&mut self, now: Now, change: CatalogChange, reply_to: R) {
        let CatalogChange { worker, sequence, modules, force } = change;
        let key = WorkerKey(worker);
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        worker.last_seen = now;
        if sequence > worker.last_change.0 {
            let too_large = self.registry.refusal_of(&modules, Some(key));
            let conflict = too_large.or_else(|| if force { None } else { self.conflict(key, &modules) });
            if let Some(worker) = self.registry.get_mut(key) {
                worker.last_change = (sequence, conflict.clone());
            }
            if conflict.is_none() {
                self.apply_catalog(now, key, modules);
            }
        }
        let declined = self.registry.get(key).and_then(|worker| worker.last_change.1.clone());
        self.reply_to_worker(reply_to, declined.map_or(WorkerReply::Noted, WorkerReply::Declined));
    }

    fn apply_catalog(&mut self, now: Now, key: WorkerKey, modules: Vec<ModuleInfo>) {
        let Some(worker) = self.registry.get(key) else { return };
        let (id, catalog_events, before) =
            (worker.id.clone(), catalog_events(worker.modules(), &modules), schedule_specs(worker.modules()));
        for (kind, detail) in &catalog_events {
            self.record_event(now, NewEvent { detail: Some(detail), ..NewEvent::of_worker(*kind, &id) });
        }
        self.update_module_schedules(now, key, &before, &modules);
        let after = schedule_specs(&modules);
        let dropped = before.into_iter().filter(|(name, _)| !after.contains_key(name)).collect();
        let lone = self.exclusive_schedules(key, &dropped);
        let names = modules.iter().filter(|module| module.status == ModuleStatus::Leaving);
        let leaving: Vec<Arc<str>> =
            names.flat_map(|module| &module.tasks).map(|task| task.name.as_str().into()).collect();
        let diff = self.registry.change(key, modules);
        let is_closed = |name: &Arc<str>| self.registry.is_leaving(name);
        let closed: Vec<Arc<str>> =
            leaving.into_iter().filter(is_closed).chain(diff.removed.iter().cloned()).chain(lone).collect();
        // Runs that are due from now on would fail.
        self.suspend_schedules(now, &closed, Duration::ZERO);
        for name in &diff.removed {
            self.queue.mark_unserved(name);
        }
        for name in diff.added {
            self.queue.mark_served(name.clone());
            self.serve(now, &name);
        }
        self.offer_modules(now, key);
    }

    /// Returns how these modules conflict with unfinished tasks, if they do.
    fn conflict(&self, key: WorkerKey, modules: &[ModuleInfo]) -> Option<Refusal> {
        let (old, new) = (schemas(self.registry.get(key)?.modules()), schemas(modules));
        let conflict_of = |name: &str, schema: &Json| match new.get(name) {
            None => (!self.registry.has_other(key, name)).then_some(CatalogConflict::Removed),
            Some(new) if *new == schema => None,
            Some(new) => Some(CatalogConflict::Changed(new, OnceCell::new())),
        };
        let conflicts: BTreeMap<&str, CatalogConflict<'_>> =
            old.into_iter().filter_map(|(name, schema)| Some((name, conflict_of(name, schema)?))).collect();
        let first = if conflicts.is_empty() { None } else { self.blocked(&conflicts).into_iter().next() };
        first.map(|BlockedTasks { name, count, reason }| {
            let tasks = match count {
                1 => "1 unfinished task".to_owned(),
                _ if count < share(conflicts.len()) => format!("{count} unfinished tasks"),
                _ => format!("{count} or more unfinished tasks"),
            };
            let reason = match reason {
                None => format!("it has no '{name}', which would leave {tasks} without a worker"),
                Some(reason) => format!("it does not accept the arguments of {tasks} of '{name}': {reason}"),
            };
            Refusal::new(RefusalCode::CatalogConflict, reason)
        })
    }

    /// Returns the unfinished tasks that could not run any more, by their names.
    fn blocked<'a>(&'a self, conflicts: &BTreeMap<&'a str, CatalogConflict<'_>>) -> Vec<BlockedTasks<'a>> {
        let mut bytes = 0;
        let mut blocked = BTreeMap::<&str, BlockedTasks<'_>>::new();
        for record in self.unfinished_of(conflicts) {
            let Some((name, conflict_of)) = conflicts.get_key_value(&*record.name) else { continue };
            let reason = match conflict_of {
                CatalogConflict::Removed => None,
                CatalogConflict::Changed(..) if bytes >= CHECKED_BYTES_MAX => continue,
                CatalogConflict::Changed(schema, signature) => {
                    bytes += record.bytes();
                    let signature = signature.get_or_init(|| Signature::read(name, schema));
                    let Err(reason) = signature.check(&record.args, &record.kwargs) else { continue };
                    Some(reason.to_string())
                }
            };
            blocked.entry(name).or_insert(BlockedTasks { name, count: 0, reason }).count += 1;
        }
        blocked.into_values().collect()
    }

    /// Iterates over the unfinished tasks of these names: queued, scheduled, and leased ones, which may be retried.
    fn unfinished_of<'a>(
        &'a self,
        names: &BTreeMap<&'a str, CatalogConflict<'_>>,
    ) -> impl Iterator<Item = &'a TaskRecord> {
        let queued: Vec<_> = names.keys().map(|name| self.queue.of_name(name).take(share(names.len()))).collect();
        let scheduled = self.timers.iter().take(SCANNED_MAX).filter_map(|(_, timer)| match timer {
            Timer::EnqueueDelayed(id) => Some(id),
            _ => None,
        });
        // Through the slots, so that the order is deterministic.
        let granted = self.registry.iter().flat_map(|(_, worker)| worker.slots.values().flat_map(|slot| &slot.granted));
        let granted = granted.take(SCANNED_MAX).filter_map(|lease| self.leases.get(lease).map(|granted| &granted.task));
        let etas = self.etas.iter().take(SCANNED_MAX).map(|(_, id)| id);
        let all = queued.into_iter().flatten().chain(scheduled).chain(etas).chain(granted);
        all.filter_map(|id| self.tasks.get(id)).map(|record| &**record)
    }
}

/// Returns how many waiting tasks are checked of each name.
fn share(names: usize) -> usize {
    (CHECKED_MAX / names.max(1)).max(1)
}

/// Returns the schemas of the tasks in a catalog.
fn schemas(modules: &[ModuleInfo]) -> BTreeMap<&str, &Json> {
    modules.iter().flat_map(|module| &module.tasks).map(|task| (task.name.as_str(), &task.schema)).collect()
}

/// Returns the events of a catalog change.
fn catalog_events(old: &[ModuleInfo], new: &[ModuleInfo]) -> Vec<(EventKind, String)> {
    let old: BTreeMap<&str, &ModuleInfo> = old.iter().map(|module| (module.path.as_str(), module)).collect();
    let paths: BTreeSet<&str> = new.iter().map(|module| module.path.as_str()).collect();
    let changes = new.iter().flat_map(|module| {
        let before = old.get(module.path.as_str()).copied();
        let event = |kind, what: Option<String>| what.map(|what| (kind, format!("{}: {what}", module.name)));
        let changed = event(EventKind::ModulesChanged, change(before, module));
        changed.into_iter().chain(event(EventKind::ModuleRefused, failure(before, module)))
    });
    let dropped = old.values().filter(|module| !module.hash.is_empty() && !paths.contains(module.path.as_str()));
    let dropped =
        dropped.map(|module| (EventKind::ModulesChanged, format!("{}: {} was removed", module.name, module.version())));
    changes.chain(dropped).collect()
}

/// Describes how a module has changed, if it has.
fn change(before: Option<&ModuleInfo>, module: &ModuleInfo) -> Option<String> {
    let is = module.version();
    match before.filter(|before| !before.hash.is_empty()) {
        _ if is.is_empty() => None,
        None => Some(format!("{is} was added")),
        Some(before) if before.hash != module.hash => Some(format!("{} -> {is}", before.version())),
        Some(before) if before.status != module.status => Some(match module.status {
            ModuleStatus::Missing => "its file is missing".to_owned(),
            ModuleStatus::Leaving => "its file was removed: it only runs tasks that were submitted before".to_owned(),
            ModuleStatus::Loaded | ModuleStatus::Broken | ModuleStatus::Loading => "its file is back".to_owned(),
            ModuleStatus::Other(status) => format!("it is {}", status.as_str()),
        }),
        Some(_) => None,
    }
}

/// Returns the error of a module, if it is new.
fn failure(before: Option<&ModuleInfo>, module: &ModuleInfo) -> Option<String> {
    let previous = before.and_then(|before| before.last_error.as_ref());
    let error = module.last_error.as_ref()?;
    (previous != Some(error)).then(|| error.message.clone())
}
