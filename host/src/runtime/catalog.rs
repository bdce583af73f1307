//! The catalog: all modules and tasks of a worker.
//!
//! Invariant: no two of its modules have a task of the same name. A short name of a plain component's function that
//! another module has as well is no task name of either; their full names are. Of two with the same full name, the first
//! has it, or the module that registers it itself; the other function cannot be called.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{LOADS_MAX, LoadError, Module, ModuleError, Runtime, module_name};
use crate::{
    escape,
    lock::{self, lock},
    system,
    task::{LoadFailure, ModuleInfo, ModuleStatus, NotCallable, TaskInfo},
};

/// Maximum functions of one module that are listed as not callable because another module has their names.
const TAKEN_MAX: usize = 1000;

/// Modules, found by the names of their tasks.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    modules: Vec<Module>,
    by_task: HashMap<String, usize>,
    /// The states of module files, also of files from which no module is loaded.
    states: BTreeMap<PathBuf, ModuleState>,
    /// Modules for task names that this catalog does not have, from the catalog that it replaces or
    /// that replaces it.
    fallback: HashMap<String, Module>,
    /// Incremented with each change of the modules.
    revision: u64,
}

/// The state of a module file.
#[derive(Clone, Debug, Default)]
struct ModuleState {
    status: ModuleStatus,
    last_error: Option<LoadFailure>,
}

impl Catalog {
    /// Loads the modules at `paths`, several at a time. Returns the errors of those that cannot be loaded
    /// or have a task that an earlier module has.
    pub fn load(runtime: &Runtime, paths: &[PathBuf]) -> (Catalog, Vec<LoadError>) {
        let mut catalog = Catalog::default();
        let loaded = load_all(runtime, paths).into_iter();
        let errors = loaded.filter_map(|module| module.and_then(|module| catalog.put(module)).err()).collect();
        (catalog, errors)
    }

    /// Adds a module, or replaces the one that was loaded from the same path.
    ///
    /// # Errors
    /// [`ModuleError::TaskTaken`] if both it and another module register a task of one name. The catalog is then
    /// unchanged.
    pub fn put(&mut self, module: Module) -> Result<(), LoadError> {
        let index = self.modules.iter().position(|other| other.path() == module.path());
        self.check_names(&module, index)?;
        self.states.remove(module.path());
        match index {
            Some(index) => self.modules[index] = module,
            None => self.modules.push(module),
        }
        self.update_index();
        Ok(())
    }

    /// Adds several modules together, or replaces those that were loaded from the same paths: a task may move from one
    /// of them to another.
    ///
    /// # Errors
    /// [`ModuleError::TaskTaken`] if two modules register a task of one name. The catalog is then inconsistent.
    pub fn put_all(&mut self, modules: Vec<Module>) -> Result<(), LoadError> {
        let paths: Vec<PathBuf> = modules.iter().map(|module| module.path().to_owned()).collect();
        for module in modules {
            self.states.remove(module.path());
            match self.modules.iter_mut().find(|other| other.path() == module.path()) {
                Some(slot) => *slot = module,
                None => self.modules.push(module),
            }
        }
        self.update_index();
        let mut tasks = self.tasks().filter(|(index, _)| !self.modules[*index].is_plain());
        let Some((index, task)) = tasks.find(|(index, task)| self.by_task.get(&task.name) != Some(index)) else {
            return Ok(());
        };
        let mut conflict = [self.by_task[&task.name], index].map(|index| self.modules[index].path().to_owned());
        if paths.contains(&conflict[0]) && !paths.contains(&conflict[1]) {
            conflict.reverse();
        }
        let [other, path] = conflict;
        Err(LoadError { path, why: ModuleError::TaskTaken { task: task.name.clone(), other } })
    }

    /// Sorts the modules by a key of their paths.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl Fn(&Path) -> K) {
        self.modules.sort_by_key(|module| key(module.path()));
        self.update_index();
    }

    /// Removes the module that was loaded from `path`, and the state of that file.
    pub fn remove(&mut self, path: &Path) -> Option<Module> {
        self.states.remove(path);
        let index = self.modules.iter().position(|module| module.path() == path)?;
        let module = self.modules.remove(index);
        self.update_index();
        Some(module)
    }

    /// The module with the task of that name.
    pub fn find(&self, task: &str) -> Option<&Module> {
        self.by_task.get(task).map(|index| &self.modules[*index]).or_else(|| self.fallback.get(task))
    }

    /// The module whose task has that name, unless that is a short one, which several may have.
    pub fn find_reserved(&self, task: &str) -> Option<&Module> {
        self.owner(task).map(|index| &self.modules[index])
    }

    /// The functions of the module loaded from `path` whose names another module has.
    pub fn taken_from(&self, path: &Path) -> Vec<NotCallable> {
        let index = self.modules.iter().position(|module| module.path() == path);
        index.map_or_else(Vec::new, |index| self.taken(index))
    }

    /// The module that was loaded from `path`.
    pub fn loaded_from(&self, path: &Path) -> Option<&Module> {
        self.modules.iter().find(|module| module.path() == path)
    }

    /// This catalog, which also finds the tasks that only `other` has, so that attempts that were granted
    /// under the other one can run.
    #[must_use]
    pub fn with_fallback(&self, other: &Catalog) -> Catalog {
        let names = other.by_task.keys().chain(other.fallback.keys());
        let only_other = names.filter(|name| !self.by_task.contains_key(*name));
        let fallback = only_other.filter_map(|name| Some((name.clone(), other.find(name)?.clone()))).collect();
        Catalog { fallback, ..self.clone() }
    }

    /// This catalog without its fallback.
    #[must_use]
    pub fn without_fallback(&self) -> Catalog {
        Catalog { fallback: HashMap::new(), ..self.clone() }
    }

    /// The revision of this catalog; a newer one has a higher number.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// This catalog with another revision.
    #[must_use]
    pub fn with_revision(self, revision: u64) -> Catalog {
        Catalog { revision, ..self }
    }

    /// Sets the status of a module file.
    pub fn set_status(&mut self, path: &Path, status: ModuleStatus) {
        self.states.entry(path.to_owned()).or_default().status = status;
    }

    /// The status of a module file.
    pub fn status(&self, path: &Path) -> ModuleStatus {
        self.states.get(path).map(|state| state.status).unwrap_or_default()
    }

    /// Sets the reason why a file is not used.
    pub fn set_error(&mut self, path: &Path, error: LoadFailure) {
        self.states.entry(path.to_owned()).or_default().last_error = Some(error);
    }

    /// Removes the state of a file.
    pub fn clear_state(&mut self, path: &Path) {
        self.states.remove(path);
    }

    /// All modules, in the order of their sources.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Marks a file without a loaded module as loading.
    pub fn set_loading(&mut self, path: &Path) {
        self.states.insert(path.to_owned(), ModuleState { status: ModuleStatus::Loading, last_error: None });
    }

    /// The descriptions of all modules; those that could not be loaded come last.
    pub fn describe(&self) -> Vec<ModuleInfo> {
        let loaded = self.modules.iter().enumerate().map(|(index, module)| {
            let mut info = module.info().clone();
            info.tasks.retain(|task| self.by_task.get(&task.name) == Some(&index));
            info.not_callable.extend(self.taken(index));
            if let Some(ModuleState { status, last_error }) = self.states.get(module.path()) {
                info.status = *status;
                info.last_error.clone_from(last_error);
            }
            info
        });
        let others = self.states.iter().filter(|(path, _)| self.loaded_from(path).is_none());
        let others = others.filter_map(|(path, state)| {
            let status = match state {
                ModuleState { last_error: Some(_), .. } => ModuleStatus::Broken,
                ModuleState { status: ModuleStatus::Loading, .. } => ModuleStatus::Loading,
                ModuleState { .. } => return None,
            };
            Some(ModuleInfo {
                name: module_name(path),
                path: path.display().to_string(),
                status,
                last_error: state.last_error.clone(),
                ..ModuleInfo::default()
            })
        });
        loaded.chain(others).collect()
    }

    fn check_names(&self, module: &Module, index: Option<usize>) -> Result<(), LoadError> {
        if module.is_plain() {
            return Ok(());
        }
        for task in &module.info().tasks {
            let other = self.owner(&task.name).filter(|other| Some(*other) != index);
            if let Some(other) = other.map(|other| &self.modules[other]).filter(|other| !other.is_plain()) {
                let why = ModuleError::TaskTaken { task: task.name.clone(), other: other.path().to_owned() };
                return Err(LoadError { path: module.path().to_owned(), why });
            }
        }
        Ok(())
    }

    /// The functions of a module whose full names another module has.
    fn taken(&self, index: usize) -> Vec<NotCallable> {
        let module = &self.modules[index];
        let [own, name] = [module.path().display().to_string(), format!("{}#", module.info().name)];
        let tasks = module.info().tasks.iter().filter(|task| task.full_name.is_none());
        let taken = tasks.filter_map(|task| {
            let other = self.owner(&task.name).filter(|other| *other != index)?;
            let other = self.modules[other].path().display().to_string();
            let [own, other] = [&own, &other].map(|path| escape::line(path));
            let change = if task.name.starts_with(&name) {
                "rename one of the two files"
            } else {
                "give one of them another package name or version"
            };
            let reason = format!("{other} has a task of that name, and {own} as well: {change}, or load only one");
            Some(NotCallable { name: task.name.clone(), reason })
        });
        taken.take(TAKEN_MAX).collect()
    }

    /// The index of the module with the task of that name, if it is not a short name.
    fn owner(&self, task: &str) -> Option<usize> {
        let index = *self.by_task.get(task)?;
        self.modules[index].task(task).is_some_and(|task| task.full_name.is_none()).then_some(index)
    }

    /// The tasks of all modules, also under names that several of them have.
    fn tasks(&self) -> impl Iterator<Item = (usize, &TaskInfo)> {
        let modules = self.modules.iter().enumerate();
        modules.flat_map(|(index, module)| module.info().tasks.iter().map(move |task| (index, task)))
    }

    fn update_index(&mut self) {
        // The first module with a name has it; what a module registers itself takes precedence.
        let mut reserved = HashMap::<&str, usize>::new();
        for plain in [false, true] {
            let tasks = self.tasks().filter(|(index, _)| self.modules[*index].is_plain() == plain);
            for (index, task) in tasks.filter(|(_, task)| task.full_name.is_none()) {
                reserved.entry(&task.name).or_insert(index);
            }
        }
        let mut short_names = HashMap::<&str, Option<usize>>::new();
        for (index, task) in self.tasks() {
            // A function that cannot be called leaves its short name to others.
            if task.full_name.as_deref().is_none_or(|name| reserved.get(name) != Some(&index)) {
                continue;
            }
            let unique = |first: &mut Option<usize>| *first = first.filter(|first| *first == index);
            short_names.entry(&task.name).and_modify(unique).or_insert(Some(index));
        }
        let short_names = short_names.into_iter().filter_map(|(name, index)| Some((name.to_owned(), index?)));
        let mut by_task: HashMap<String, usize> = short_names.collect();
        // A name that is not short belongs to its module.
        by_task.extend(reserved.into_iter().map(|(name, index)| (name.to_owned(), index)));
        self.by_task = by_task;
    }
}

/// Loads modules on as many threads as there are processors. The results have the order of `paths`.
fn load_all(runtime: &Runtime, paths: &[PathBuf]) -> Vec<Result<Module, LoadError>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(paths.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else { break };
            let result = runtime.load(path);
            lock(&results).push((index, result));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(LOADS_MAX).min(paths.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // This thread loads as well, so a missing thread is not fatal.
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, work) {
                let error = system::explain(&error);
                tracing::warn!(error, "cannot start a thread: modules are loaded by fewer threads");
                break;
            }
        }
        work();
    });
    let mut results = lock::into_inner(results);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
