//! A worker's modules change while it works.
//!
//! The worker asks before it changes anything. Either its catalog changes here, in this one
//! transition, or it stays as it was and the worker hears why: a change must not strand a task that
//! was accepted for the old modules.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{Responder, State, TaskRecord, Timer, schedules::whens};
use crate::{
    clock::Now,
    control_plane::events::NewEvent,
    json::Json,
    protocol::{CatalogChange, EventKind, WorkerReply},
    signature::Signature,
    task::{ModuleInfo, ModuleStatus},
};

/// Waiting tasks that are looked at for one change, shared evenly among the names that it concerns,
/// but at least one of each. All this is done under the lock.
const CHECKED_MAX: usize = 10_000;
/// Bytes of arguments that are checked against changed signatures. Those beyond are taken to fit.
const CHECKED_BYTES_MAX: usize = 4 << 20;
/// Scheduled tasks, and leases, that are looked at for one change.
const SCANNED_MAX: usize = 20_000;

/// A task name of which the new catalog may not run everything that was submitted.
enum Concern<'a> {
    /// No worker will have it.
    Gone,
    /// It has another signature, which is read once there is a task to check.
    Changed(&'a Json, OnceCell<Signature>),
}

/// Tasks of one name that could not run any more.
struct Stranded<'a> {
    name: &'a str,
    count: usize,
    /// Why the first of them could not.
    why: Option<String>,
}

impl<R: Responder> State<R> {
    /// Changes the modules of a worker, unless tasks wait that could then not run.
    pub fn change_catalog(&mut self, now: Now, change: CatalogChange, reply_to: R) {
        let CatalogChange { worker: key, sequence, modules, force } = change;
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        worker.last_seen = now;
        if sequence > worker.changed.0 {
            let too_large = self.registry.refusal_of(&modules, Some(key));
            let objection = too_large.or_else(|| if force { None } else { self.objection(key, &modules) });
            if let Some(worker) = self.registry.get_mut(key) {
                worker.changed = (sequence, objection.clone());
            }
            if objection.is_none() {
                self.take_catalog(now, key, modules);
            }
        }
        let declined = self.registry.get(key).and_then(|worker| worker.changed.1.clone());
        self.reply_to_worker(reply_to, declined.map_or(WorkerReply::Noted, WorkerReply::Declined));
        self.dispatch(now);
    }

    fn take_catalog(&mut self, now: Now, key: Uuid, modules: Vec<ModuleInfo>) {
        let Some(worker) = self.registry.get(key) else { return };
        let (id, news, before) = (worker.id.clone(), news(worker.modules(), &modules), whens(worker.modules()));
        for (kind, detail) in &news {
            self.note_event(now, NewEvent { detail: Some(detail), ..NewEvent::of_worker(*kind, &id) });
        }
        self.offer_schedules(now, key, &before, &modules);
        let after = whens(&modules);
        let dropped = before.into_iter().filter(|(name, _)| !after.contains_key(name)).collect();
        let lone = self.lone_schedules(key, &dropped);
        let names = modules.iter().filter(|module| module.status == ModuleStatus::Leaving);
        let leaving: Vec<Arc<str>> =
            names.flat_map(|module| &module.tasks).map(|task| task.name.as_str().into()).collect();
        let turnover = self.registry.change(key, modules);
        let nobody_takes = |name: &Arc<str>| self.registry.is_leaving(name);
        let closed: Vec<Arc<str>> =
            leaving.into_iter().filter(nobody_takes).chain(turnover.gone.iter().cloned()).chain(lone).collect();
        // Whatever is due from now on would fail.
        self.withdraw_schedules(now, &closed, Duration::ZERO);
        for name in &turnover.gone {
            self.queue.withdraw(name);
        }
        for name in turnover.new {
            self.queue.offer(name.clone());
            self.claim(now, &name);
        }
    }

    /// Why a worker's modules should not change to these.
    fn objection(&self, key: Uuid, modules: &[ModuleInfo]) -> Option<String> {
        let (old, new) = (schemas(self.registry.get(key)?.modules()), schemas(modules));
        let concern = |name: &str, schema: &Json| match new.get(name) {
            None => (!self.registry.has_other(key, name)).then_some(Concern::Gone),
            Some(new) if *new == schema => None,
            Some(new) => Some(Concern::Changed(new, OnceCell::new())),
        };
        let concerns: BTreeMap<&str, Concern<'_>> =
            old.into_iter().filter_map(|(name, schema)| Some((name, concern(name, schema)?))).collect();
        let first = if concerns.is_empty() { None } else { self.stranded(&concerns).into_iter().next() };
        first.map(|Stranded { name, count, why }| {
            let tasks = match count {
                1 => "1 unfinished task".to_owned(),
                _ if count < share(concerns.len()) => format!("{count} unfinished tasks"),
                _ => format!("{count} or more unfinished tasks"),
            };
            match why {
                None => format!("it has no '{name}', which would leave {tasks} without a worker"),
                Some(why) => format!("it does not take the arguments of {tasks} of '{name}': {why}"),
            }
        })
    }

    /// Tasks that have not ended and could not run any more, by their names.
    fn stranded<'a>(&'a self, concerns: &BTreeMap<&'a str, Concern<'_>>) -> Vec<Stranded<'a>> {
        let mut bytes = 0;
        let mut stranded = BTreeMap::<&str, Stranded<'_>>::new();
        for record in self.unfinished_of(concerns) {
            let Some((name, concern)) = concerns.get_key_value(&*record.name) else { continue };
            let why = match concern {
                Concern::Gone => None,
                Concern::Changed(..) if bytes >= CHECKED_BYTES_MAX => continue,
                Concern::Changed(schema, signature) => {
                    bytes += record.bytes();
                    let signature = signature.get_or_init(|| Signature::read(name, schema));
                    let Err(why) = signature.check(&record.args, &record.kwargs) else { continue };
                    Some(why.to_string())
                }
            };
            stranded.entry(name).or_insert(Stranded { name, count: 0, why }).count += 1;
        }
        stranded.into_values().collect()
    }

    /// The unfinished tasks of these names: those that wait, those that are scheduled, and those
    /// that are with a worker, which may be tried again.
    fn unfinished_of<'a>(&'a self, names: &BTreeMap<&'a str, Concern<'_>>) -> impl Iterator<Item = &'a TaskRecord> {
        let queued: Vec<_> = names.keys().map(|name| self.queue.of_name(name).take(share(names.len()))).collect();
        let scheduled = self.timers.iter().take(SCANNED_MAX).filter_map(|(_, timer)| match timer {
            Timer::Due(id) => Some(id),
            _ => None,
        });
        // By way of the slots, so that the order is the same each time.
        let granted = self.registry.iter().flat_map(|(_, worker)| worker.slots.values().flat_map(|slot| &slot.granted));
        let granted = granted.take(SCANNED_MAX).filter_map(|lease| self.leases.get(lease).map(|granted| &granted.task));
        let etas = self.etas.iter().take(SCANNED_MAX).map(|(_, id)| id);
        let all = queued.into_iter().flatten().chain(scheduled).chain(etas).chain(granted);
        all.filter_map(|id| self.tasks.get(id)).map(|record| &**record)
    }
}

/// Waiting tasks that are looked at of each of so many names.
fn share(names: usize) -> usize {
    (CHECKED_MAX / names.max(1)).max(1)
}

/// The schemas of the tasks in a catalog.
fn schemas(modules: &[ModuleInfo]) -> BTreeMap<&str, &Json> {
    modules.iter().flat_map(|module| &module.tasks).map(|task| (task.name.as_str(), &task.schema)).collect()
}

/// What there is to tell of a change.
fn news(old: &[ModuleInfo], new: &[ModuleInfo]) -> Vec<(EventKind, String)> {
    let old: BTreeMap<&str, &ModuleInfo> = old.iter().map(|module| (module.path.as_str(), module)).collect();
    let paths: BTreeSet<&str> = new.iter().map(|module| module.path.as_str()).collect();
    let changes = new.iter().flat_map(|module| {
        let before = old.get(module.path.as_str()).copied();
        let told = |kind, what: Option<String>| what.map(|what| (kind, format!("{}: {what}", module.name)));
        let changed = told(EventKind::ModulesChanged, change(before, module));
        changed.into_iter().chain(told(EventKind::ModuleRefused, failure(before, module)))
    });
    let dropped = old.values().filter(|module| !module.hash.is_empty() && !paths.contains(module.path.as_str()));
    let dropped =
        dropped.map(|module| (EventKind::ModulesChanged, format!("{}: {} dropped", module.name, module.version())));
    changes.chain(dropped).collect()
}

/// What a module runs now that it did not run before.
fn change(before: Option<&ModuleInfo>, module: &ModuleInfo) -> Option<String> {
    let is = module.version();
    match before.filter(|before| !before.hash.is_empty()) {
        _ if is.is_empty() => None,
        None => Some(format!("{is} appeared")),
        Some(before) if before.hash != module.hash => Some(format!("{} -> {is}", before.version())),
        Some(before) if before.status != module.status => Some(match module.status {
            ModuleStatus::Missing => "its file is missing".to_owned(),
            ModuleStatus::Leaving => "its file is gone: it runs what was submitted before".to_owned(),
            ModuleStatus::Loaded | ModuleStatus::Broken | ModuleStatus::Loading => "its file is back".to_owned(),
        }),
        Some(_) => None,
    }
}

/// What is wrong with a module that was not wrong before.
fn failure(before: Option<&ModuleInfo>, module: &ModuleInfo) -> Option<String> {
    let known = before.and_then(|before| before.last_error.as_ref());
    let error = module.last_error.as_ref()?;
    (known != Some(error)).then(|| error.message.clone())
}
