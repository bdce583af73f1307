//! The modules and tasks that a worker has.
//!
//! Apart because it knows about many modules where the rest knows about one. Invariant: no two
//! of its modules have a task of the same name, so a name leads to one module.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{LOADS_MAX, LoadError, Module, ModuleError, Runtime};
use crate::{
    lock::{self, lock},
    system,
    task::{LoadFailure, ModuleInfo, ModuleStatus},
};

/// Modules, found by the names of their tasks.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    modules: Vec<Module>,
    by_task: HashMap<String, usize>,
    /// What is known of files beside the module that was loaded from them, if one was.
    notes: BTreeMap<PathBuf, Note>,
    /// Modules for names that this catalog does not have, but another that is just taking its
    /// place or losing it.
    beside: HashMap<String, Module>,
    /// Grows with every change of what runs.
    revision: u64,
}

/// What is known of the file of a module.
#[derive(Clone, Debug, Default)]
struct Note {
    status: ModuleStatus,
    last_error: Option<LoadFailure>,
}

impl Catalog {
    /// Loads the modules at `paths`, several at a time. What cannot be loaded, or has a task that
    /// an earlier module has, is left out and told about.
    pub fn load(runtime: &Runtime, paths: &[PathBuf]) -> (Catalog, Vec<LoadError>) {
        let mut catalog = Catalog::default();
        let loaded = load_all(runtime, paths).into_iter();
        let errors = loaded.filter_map(|module| module.and_then(|module| catalog.put(module)).err()).collect();
        (catalog, errors)
    }

    /// Adds a module, or puts it in the place of the one that was loaded from the same path.
    ///
    /// # Errors
    /// [`ModuleError::TaskTaken`] if another module has a task of one of its names. The catalog is
    /// then as it was.
    pub fn put(&mut self, module: Module) -> Result<(), LoadError> {
        let place = self.modules.iter().position(|other| other.path() == module.path());
        self.check_names(&module, place)?;
        self.notes.remove(module.path());
        match place {
            Some(place) => self.modules[place] = module,
            None => self.modules.push(module),
        }
        self.index();
        Ok(())
    }

    /// Adds several modules, or puts them in the places of those that were loaded from the same
    /// paths, at once: a task may move from one of them to another.
    ///
    /// # Errors
    /// [`ModuleError::TaskTaken`] if two modules have a task of one name. The catalog is of no use then.
    pub fn put_together(&mut self, modules: Vec<Module>) -> Result<(), LoadError> {
        let paths: Vec<PathBuf> = modules.iter().map(|module| module.path().to_owned()).collect();
        for module in modules {
            self.notes.remove(module.path());
            match self.modules.iter_mut().find(|other| other.path() == module.path()) {
                Some(place) => *place = module,
                None => self.modules.push(module),
            }
        }
        self.index();
        let places = self.modules.iter().enumerate();
        let mut tasks = places.flat_map(|(place, module)| module.info().tasks.iter().map(move |task| (place, task)));
        // The last one that has a name has it in the index.
        let Some((place, task)) = tasks.find(|(place, task)| self.by_task.get(&task.name) != Some(place)) else {
            return Ok(());
        };
        let mut two = [place, self.by_task[&task.name]].map(|place| self.modules[place].path().to_owned());
        if paths.contains(&two[0]) && !paths.contains(&two[1]) {
            two.reverse();
        }
        let [other, path] = two;
        Err(LoadError { path, why: ModuleError::TaskTaken { task: task.name.clone(), other } })
    }

    /// Orders the modules by what `place` says of their files.
    pub fn order_by<K: Ord>(&mut self, place: impl Fn(&Path) -> K) {
        self.modules.sort_by_key(|module| place(module.path()));
        self.index();
    }

    /// Takes the module out that was loaded from `path`, and what was noted of that file.
    pub fn remove(&mut self, path: &Path) -> Option<Module> {
        self.notes.remove(path);
        let place = self.modules.iter().position(|module| module.path() == path)?;
        let module = self.modules.remove(place);
        self.index();
        Some(module)
    }

    /// The module that has a task of that name.
    pub fn find(&self, task: &str) -> Option<&Module> {
        self.by_task.get(task).map(|place| &self.modules[*place]).or_else(|| self.beside.get(task))
    }

    /// The module that was loaded from `path`.
    pub fn loaded_from(&self, path: &Path) -> Option<&Module> {
        self.modules.iter().find(|module| module.path() == path)
    }

    /// This catalog, which also finds what only `other` has: an attempt that was granted under
    /// the other one can run.
    #[must_use]
    pub fn beside(&self, other: &Catalog) -> Catalog {
        let names = other.by_task.keys().chain(other.beside.keys());
        let only_there = names.filter(|name| !self.by_task.contains_key(*name));
        let beside = only_there.filter_map(|name| Some((name.clone(), other.find(name)?.clone()))).collect();
        Catalog { beside, ..self.clone() }
    }

    /// This catalog alone, without what was beside it.
    #[must_use]
    pub fn alone(&self) -> Catalog {
        Catalog { beside: HashMap::new(), ..self.clone() }
    }

    /// Tells it from the catalogs of before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// This catalog under that number.
    #[must_use]
    pub fn with_revision(self, revision: u64) -> Catalog {
        Catalog { revision, ..self }
    }

    /// Notes how the file of a module stands.
    pub fn set_status(&mut self, path: &Path, status: ModuleStatus) {
        self.notes.entry(path.to_owned()).or_default().status = status;
    }

    /// How the file of a module stands.
    pub fn status(&self, path: &Path) -> ModuleStatus {
        self.notes.get(path).map(|note| note.status).unwrap_or_default()
    }

    /// Notes that a file is not used, and why.
    pub fn set_error(&mut self, path: &Path, error: LoadFailure) {
        self.notes.entry(path.to_owned()).or_default().last_error = Some(error);
    }

    /// Forgets what was noted of a file.
    pub fn clear_notes(&mut self, path: &Path) {
        self.notes.remove(path);
    }

    /// All modules, in the order of their sources.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Notes that a module is to be loaded from a file of which nothing runs.
    pub fn set_loading(&mut self, path: &Path) {
        self.notes.insert(path.to_owned(), Note { status: ModuleStatus::Loading, last_error: None });
    }

    /// What is known about all modules, those that could not be loaded last.
    pub fn describe(&self) -> Vec<ModuleInfo> {
        let loaded = self.modules.iter().map(|module| match self.notes.get(module.path()) {
            Some(Note { status, last_error }) => {
                ModuleInfo { status: *status, last_error: last_error.clone(), ..module.info().clone() }
            }
            None => module.info().clone(),
        });
        let others = self.notes.iter().filter(|(path, _)| self.loaded_from(path).is_none());
        let others = others.filter_map(|(path, note)| {
            let status = match note {
                Note { last_error: Some(_), .. } => ModuleStatus::Broken,
                Note { status: ModuleStatus::Loading, .. } => ModuleStatus::Loading,
                Note { .. } => return None,
            };
            Some(ModuleInfo {
                name: super::module::name_of(path),
                path: path.display().to_string(),
                status,
                last_error: note.last_error.clone(),
                ..ModuleInfo::default()
            })
        });
        loaded.chain(others).collect()
    }

    fn check_names(&self, module: &Module, place: Option<usize>) -> Result<(), LoadError> {
        for task in &module.info().tasks {
            if let Some(&other) = self.by_task.get(&task.name).filter(|other| Some(**other) != place) {
                let other = self.modules[other].path().to_owned();
                let why = ModuleError::TaskTaken { task: task.name.clone(), other };
                return Err(LoadError { path: module.path().to_owned(), why });
            }
        }
        Ok(())
    }

    fn index(&mut self) {
        let modules = self.modules.iter().enumerate();
        self.by_task = modules
            .flat_map(|(place, module)| module.info().tasks.iter().map(move |task| (task.name.clone(), place)))
            .collect();
    }
}

/// Loads modules on as many threads as there are processors, and keeps their order.
fn load_all(runtime: &Runtime, paths: &[PathBuf]) -> Vec<Result<Module, LoadError>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(paths.len()));
    let work = || {
        while let Some((place, path)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            paths.get(place).map(|path| (place, path))
        } {
            let result = runtime.load(path);
            lock(&results).push((place, result));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(LOADS_MAX).min(paths.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // This thread works as well, so what cannot be started is not needed.
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, work) {
                let error = system::explain(&error);
                tracing::warn!(error, "cannot start a thread: modules are loaded by fewer");
                break;
            }
        }
        work();
    });
    let mut results = lock::into_inner(results);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
