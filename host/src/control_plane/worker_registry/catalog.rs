//! The catalogs of workers, and the task names that they serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::task::{ModuleInfo, ModuleStatus, Policy, TaskInfo, UngrantedTask};

/// A task name that workers serve.
#[derive(Debug)]
pub(super) struct ServedName {
    /// Number of workers that serve it.
    pub(super) workers: usize,
    /// Number of them that run only tasks that were submitted before.
    pub(super) leaving: usize,
    /// The policy of the newest module.
    pub(super) policy: Policy,
}

/// A task name in the catalog of one worker.
pub(super) struct CatalogEntry {
    pub(super) policy: Policy,
    pub(super) leaving: bool,
}

impl ServedName {
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving == self.workers
    }
}

pub(super) fn catalog_names(modules: &[ModuleInfo]) -> BTreeMap<Arc<str>, CatalogEntry> {
    let tasks = modules.iter().flat_map(|module| module.tasks.iter().map(move |task| (module.status, task)));
    let entry =
        |status, policy: &Policy| CatalogEntry { policy: policy.clone(), leaving: status == ModuleStatus::Leaving };
    tasks.map(|(status, task)| (task.name.as_str().into(), entry(status, &task.policy))).collect()
}

/// The task names that a worker with this number of slots serves.
pub(super) fn served_names(modules: &[ModuleInfo], slots: u32) -> BTreeMap<Arc<str>, CatalogEntry> {
    if slots == 0 { BTreeMap::new() } else { catalog_names(modules) }
}

pub(super) fn is_loading(modules: &[ModuleInfo]) -> bool {
    modules.iter().any(|module| module.status == ModuleStatus::Loading)
}

pub(super) fn leaving(names: &BTreeMap<Arc<str>, CatalogEntry>) -> BTreeSet<Arc<str>> {
    names.iter().filter(|(_, entry)| entry.leaving).map(|(name, _)| name.clone()).collect()
}

/// Names that are served, or no longer served, after a change of a worker's modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NameDiff {
    /// Names that no worker served before.
    pub added: Vec<Arc<str>>,
    /// Names that no worker serves any more.
    pub removed: Vec<Arc<str>>,
}

/// Estimates the size of a catalog, in bytes.
pub(super) fn catalog_bytes(modules: &[ModuleInfo]) -> usize {
    /// Size of an item beyond its strings.
    const ITEM: usize = 128;
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + ITEM).sum::<usize>();
    let task = |task: &TaskInfo| {
        let full_name = task.full_name.as_ref().map_or(0, String::len);
        task.name.len()
            + full_name
            + task.documentation.len()
            + task.schema.as_str().len()
            + texts(&task.warnings)
            + texts(&task.needs)
            + ITEM
    };
    let ungranted = |task: &UngrantedTask| task.name.len() + texts(&task.missing) + ITEM;
    let module = |module: &ModuleInfo| {
        let own = module.name.len() + module.path.len() + module.hash.len() + module.engine.len();
        let error = module.last_error.as_ref().map_or(0, |error| error.message.len());
        let tasks = module.tasks.iter().map(task).chain(module.ungranted.iter().map(ungranted)).sum::<usize>();
        let not_callable = module.not_callable.iter().map(|each| each.name.len() + each.reason.len() + ITEM);
        let not_callable = not_callable.sum::<usize>();
        own + error + texts(&module.imports) + texts(&module.grants) + not_callable + tasks + ITEM
    };
    modules.iter().map(module).sum()
}
