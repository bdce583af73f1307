//! The modules and tasks that a worker has.
//!
//! Apart because it knows about many modules where the rest knows about one. Invariant: no two
//! of its modules have a task of the same name, so a name leads to one module.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{LoadError, Module, Runtime, Unusable};
use crate::task::ModuleInfo;

/// A source of modules that leads to none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file or folder.
    #[error("there is no file or folder {0}")]
    Missing(String),
    /// The pattern cannot be understood.
    #[error("'{pattern}' is not a pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: glob::PatternError,
    },
    /// The pattern fits no file.
    #[error("no file fits the pattern '{0}'")]
    NoMatch(String),
    /// The folder has no module.
    #[error("the folder {0} has no .wasm file")]
    EmptyFolder(String),
    /// The folder cannot be read.
    #[error("cannot read the folder {path}: {why}")]
    Unreadable {
        /// The folder.
        path: String,
        /// Why not.
        why: io::Error,
    },
}

/// The files that `sources` stand for: files themselves, folders for all the `.wasm` files in
/// them, and patterns such as `build/*.wasm`. Each file once, in the order of the sources.
///
/// # Errors
/// [`SourceError`] for the first source that leads to no file.
pub fn expand(sources: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for source in sources {
        for file in expand_one(source)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn expand_one(source: &str) -> Result<Vec<PathBuf>, SourceError> {
    let path = Path::new(source);
    if path.is_dir() {
        return modules_in(path);
    }
    // A file may have a star in its name.
    if path.exists() {
        return Ok(vec![path.to_owned()]);
    }
    if !source.contains(['*', '?', '[']) {
        return Err(SourceError::Missing(source.to_owned()));
    }
    let pattern = |why| SourceError::Pattern { pattern: source.to_owned(), why };
    let files: Vec<PathBuf> = glob::glob(source).map_err(pattern)?.flatten().filter(|path| path.is_file()).collect();
    if files.is_empty() { Err(SourceError::NoMatch(source.to_owned())) } else { Ok(files) }
}

fn modules_in(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let shown = || folder.display().to_string();
    let entries = fs::read_dir(folder).map_err(|why| SourceError::Unreadable { path: shown(), why })?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "wasm") && path.is_file()).collect();
    files.sort();
    if files.is_empty() { Err(SourceError::EmptyFolder(shown())) } else { Ok(files) }
}

/// Modules, found by the names of their tasks.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    modules: Vec<Module>,
    by_task: HashMap<String, usize>,
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
    /// [`Unusable::TaskTaken`] if another module has a task of one of its names. The catalog is
    /// then as it was.
    pub fn put(&mut self, module: Module) -> Result<(), LoadError> {
        let place = self.modules.iter().position(|other| other.path() == module.path());
        self.check_names(&module, place)?;
        match place {
            Some(place) => self.modules[place] = module,
            None => self.modules.push(module),
        }
        self.index();
        Ok(())
    }

    /// Takes the module out that was loaded from `path`.
    pub fn remove(&mut self, path: &Path) -> Option<Module> {
        let place = self.modules.iter().position(|module| module.path() == path)?;
        let module = self.modules.remove(place);
        self.index();
        Some(module)
    }

    /// The module that has a task of that name.
    pub fn find(&self, task: &str) -> Option<&Module> {
        self.by_task.get(task).map(|place| &self.modules[*place])
    }

    /// All modules, in the order of their sources.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// What is known about all modules.
    pub fn describe(&self) -> Vec<ModuleInfo> {
        self.modules.iter().map(|module| module.info().clone()).collect()
    }

    fn check_names(&self, module: &Module, place: Option<usize>) -> Result<(), LoadError> {
        for task in &module.info().tasks {
            if let Some(&other) = self.by_task.get(&task.name).filter(|other| Some(**other) != place) {
                let other = self.modules[other].path().to_owned();
                let why = Unusable::TaskTaken { task: task.name.clone(), other };
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
            results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
