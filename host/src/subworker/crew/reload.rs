//! Hot reload: what changes in the files of modules goes live while the slots work.
//!
//! A version is loaded aside first. Then the control plane is asked, which declines when tasks
//! wait that could not run any more. Only then the catalog changes, at once for all slots; attempts
//! under way finish on the version that they began with. Invariant: at every moment each name that
//! may be granted is found, so no change loses a task.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use tracing::{debug, error, field::display, info, warn};

use super::{PROMPT, Shared, spawn};
use crate::{
    clock::Timestamp,
    protocol::{CatalogChange, WorkerReply, WorkerRequest},
    runtime::{Catalog, Change, Content, LoadError, Module, Watch, WatchEnd, name_of},
    task::{LoadFailure, ModuleStatus, ModuleVersion},
};

/// How long a name that went is still found: no lease of before takes longer to begin.
const BESIDE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a failure that are kept.
const MESSAGE_MAX: usize = 2_000;
/// How often the control plane is asked about a change before it goes live without its word.
const ASKED_MAX: usize = 2;

/// What a worker's modules are loaded from, and how they change.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Files, globs and folders.
    pub sources: Vec<String>,
    /// How long a module may be gone from its folder.
    pub grace: Duration,
    /// Whether modules change although tasks wait that could not run any more.
    pub force: bool,
}

/// The thread that reloads.
pub(super) struct Reloader {
    shared: Arc<Shared>,
    watch: Watch,
    force: bool,
    /// Versions that are to be loaded, one at a time.
    wanted: BTreeMap<PathBuf, Content>,
    loader: Loader,
    /// Versions that are loaded and not live yet.
    candidates: BTreeMap<PathBuf, Candidate>,
    /// When the catalog changed last, while what it was before is still beside it.
    changed: Option<Instant>,
}

/// Loads one module at a time on a thread of its own, so that the watch goes on meanwhile.
struct Loader {
    busy: bool,
    sender: Sender<LoadedVersion>,
    receiver: Receiver<LoadedVersion>,
    end: WatchEnd,
}

type LoadedVersion = (PathBuf, Content, Result<Option<Module>, LoadError>);

struct Candidate {
    module: Module,
    /// Whether it was told that it is not taken.
    turned_down: bool,
}

/// What became of a change.
enum Told {
    Noted,
    Declined(String),
    /// There is no control plane to ask.
    ByNobody,
}

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>, reload: Reload) -> (Self, WatchEnd) {
        let Reload { sources, grace, force } = reload;
        let module_max = shared.runtime.config().module_max;
        let (watch, end) = Watch::new(sources, &shared.catalog(), grace, module_max);
        let (sender, receiver) = mpsc::channel();
        let loader = Loader { busy: false, sender, receiver, end: end.clone() };
        let (wanted, candidates) = (BTreeMap::new(), BTreeMap::new());
        (Self { shared, watch, force, wanted, loader, candidates, changed: None }, end)
    }

    pub(super) fn run(mut self) {
        while self.watch.wait() && !self.shared.is_draining() {
            self.turn();
        }
    }

    /// Looks once, and does what there is to do.
    fn turn(&mut self) {
        if self.changed.is_some_and(|at| at.elapsed() >= BESIDE_MAX) {
            self.changed = None;
            self.shared.set_catalog(self.shared.catalog().alone());
        }
        let mut draft = self.shared.catalog().alone();
        let mut changes = Vec::new();
        self.watch.look(|change| changes.push(change));
        let mut noted = false;
        for change in changes {
            noted |= self.take(&mut draft, change);
        }
        while let Ok((path, content, loaded)) = self.loader.receiver.try_recv() {
            self.loader.busy = false;
            // Unless it was changed again meanwhile.
            if self.wanted.get(&path) == Some(&content) {
                self.wanted.remove(&path);
                if matches!(loaded, Ok(None)) {
                    self.watch.offer_again(&path);
                }
                noted |= self.take_loaded(&mut draft, loaded);
            }
        }
        self.load_next();
        self.settle(draft, noted);
    }

    /// Begins to load the next version that is wanted.
    fn load_next(&mut self) {
        if self.loader.busy {
            return;
        }
        let Some((path, content)) = self.wanted.first_key_value().map(|(path, content)| (path.clone(), *content))
        else {
            return;
        };
        let (runtime, sender, end) = (self.shared.runtime.clone(), self.loader.sender.clone(), self.loader.end.clone());
        let load = move || {
            let loaded = runtime.load_aside(&path, content);
            let _ = sender.send((path, content, loaded));
            end.wake();
        };
        match spawn("fw-loader".into(), load) {
            Ok(_) => self.loader.busy = true,
            Err(error) => error!(%error, "cannot start a thread to load a module: trying again"),
        }
    }

    /// Takes in what was loaded. Returns whether the draft has changed.
    fn take_loaded(&mut self, draft: &mut Catalog, loaded: Result<Option<Module>, LoadError>) -> bool {
        match loaded {
            Ok(Some(module)) => {
                let candidate = Candidate { turned_down: false, module };
                self.candidates.insert(candidate.module.path().to_owned(), candidate);
                false
            }
            // It has changed since: the watch will tell.
            Ok(None) => false,
            Err(LoadError { path, why }) => {
                self.candidates.remove(&path);
                let error = why.to_string();
                self.log_refusal(draft, &path, None, &error);
                draft.set_error(&path, failure(&error));
                true
            }
        }
    }

    /// Takes in what became of a file. Returns whether the draft has changed.
    fn take(&mut self, draft: &mut Catalog, change: Change) -> bool {
        match change {
            Change::New(path, Ok(content)) => return self.take_content(draft, &path, content),
            Change::New(path, Err(why)) => {
                self.wanted.remove(&path);
                note_return(draft, &path);
                return self.take_loaded(draft, Err(LoadError { path, why }));
            }
            Change::Back(path) => {
                if let Some(module) = draft.loaded_from(&path) {
                    let version = module.version();
                    let module = name_of(&path);
                    info!(worker = self.worker(), module, path = %path.display(), %version, "module returned");
                    draft.set_status(&path, ModuleStatus::Loaded);
                }
            }
            Change::Missing(path) => match draft.loaded_from(&path) {
                Some(module) => {
                    let version = module.version();
                    let (worker, module) = (self.worker(), name_of(&path));
                    warn!(worker, module, path = %path.display(), %version, "module missing: the version that was loaded runs on");
                    draft.set_status(&path, ModuleStatus::Missing);
                }
                None => self.forget(draft, &path),
            },
            Change::Dropped(path) => match draft.loaded_from(&path) {
                Some(_) => draft.set_status(&path, ModuleStatus::Leaving),
                None => self.forget(draft, &path),
            },
        }
        true
    }

    fn take_content(&mut self, draft: &mut Catalog, path: &Path, content: Content) -> bool {
        self.wanted.remove(path);
        let is_it = |module: &&Module| *module.content() == content;
        if let Some(module) = draft.loaded_from(path).filter(is_it) {
            let version = module.version();
            let module = name_of(path);
            info!(worker = self.worker(), module, path = %path.display(), %version, "module is as it was before");
            self.candidates.remove(path);
            draft.clear_notes(path);
            return true;
        }
        if self.candidates.get(path).is_none_or(|candidate| *candidate.module.content() != content) {
            self.candidates.remove(path);
            self.wanted.insert(path.to_owned(), content);
        }
        note_return(draft, path)
    }

    /// Forgets a file that is gone, and of which nothing runs.
    fn forget(&mut self, draft: &mut Catalog, path: &Path) {
        draft.clear_notes(path);
        self.candidates.remove(path);
        self.wanted.remove(path);
        self.watch.forget(path);
    }

    /// Lets the draft go live, with as many of the candidates as can.
    fn settle(&mut self, mut draft: Catalog, mut noted: bool) {
        // One whose file is gone again waits for its return.
        let is_there = |path: &&PathBuf| draft.status(path) == ModuleStatus::Loaded;
        let paths: Vec<PathBuf> = self.candidates.keys().filter(is_there).cloned().collect();
        // All at once first: a task may have moved from one module to another.
        let together = paths.len() > 1 && self.try_to_take(&mut draft, &paths, &mut noted, Refusal::Quiet);
        if !together {
            for path in &paths {
                self.try_to_take(&mut draft, std::slice::from_ref(path), &mut noted, Refusal::Told);
            }
        }
        let leaving: Vec<PathBuf> = draft
            .modules()
            .iter()
            .map(|module| module.path().to_owned())
            .filter(|path| draft.status(path) == ModuleStatus::Leaving)
            .collect();
        for path in leaving {
            let mut without = draft.clone();
            let module = without.remove(&path);
            if self.publish(&without, false).is_ok() {
                let version = module.map(|module| display(module.version()));
                let (worker, module) = (self.worker(), name_of(&path));
                info!(worker, module, path = %path.display(), version, "module dropped: its file is gone");
                (draft, noted) = (without, false);
                self.forget(&mut draft, &path);
            }
        }
        let live = self.shared.catalog();
        if noted {
            // It changes no task, so nobody objects.
            let _ = self.publish(&draft, true);
        } else if self.shared.told.load(Ordering::SeqCst) != live.revision() {
            self.tell_what_is_live(&live);
        }
    }

    /// Tries to put these candidates into the catalog and to let it go live.
    fn try_to_take(&mut self, draft: &mut Catalog, paths: &[PathBuf], noted: &mut bool, refusal: Refusal) -> bool {
        let mut trial = draft.clone();
        let put = self.put_all(&mut trial, paths);
        let refused = match put {
            Ok(()) => match self.publish(&trial, self.force) {
                Ok(()) => None,
                Err(why) => Some(format!("{why}; it goes live when they have ended, or at once with --force-reload")),
            },
            Err(error) => Some(error.why.to_string()),
        };
        let Some(why) = refused else {
            self.told_of_new(draft, paths);
            (*draft, *noted) = (trial, false);
            return true;
        };
        if refusal == Refusal::Quiet {
            return false;
        }
        for path in paths {
            let Some(candidate) = self.candidates.get_mut(path).filter(|candidate| !candidate.turned_down) else {
                continue;
            };
            candidate.turned_down = true;
            let version = candidate.module.version();
            self.log_refusal(draft, path, Some(version), &why);
            draft.set_error(path, failure(&why));
            *noted = true;
        }
        false
    }

    fn put_all(&self, trial: &mut Catalog, paths: &[PathBuf]) -> Result<(), LoadError> {
        let modules = paths.iter().filter_map(|path| self.candidates.get(path));
        let modules: Vec<Module> = modules.map(|candidate| candidate.module.clone()).collect();
        let names = modules.iter().flat_map(|module| &module.info().tasks).map(|task| task.name.as_str());
        // A file that was renamed takes over from itself.
        let taken = names.filter_map(|name| trial.find(name)).map(Module::path);
        let gone = taken.filter(|path| !paths.iter().any(|other| other == path) && self.watch.gives_way(path));
        for path in gone.map(Path::to_owned).collect::<Vec<_>>() {
            trial.remove(&path);
        }
        trial.put_together(modules)
    }

    fn told_of_new(&mut self, old: &Catalog, paths: &[PathBuf]) {
        for path in paths {
            let Some(Candidate { module, .. }) = self.candidates.remove(path) else { continue };
            let before = old.loaded_from(path).map(|before| display(before.version()));
            let (worker, name, version) = (self.worker(), &module.info().name, module.version());
            let tasks = module.info().tasks.len();
            let words = if before.is_some() { "module reloaded" } else { "module loaded" };
            info!(worker, module = name, path = %path.display(), %version, before, tasks, "{words}");
        }
    }

    /// Logs that a version is not taken, once: a control plane in this process does it, too.
    fn log_refusal(&self, draft: &Catalog, path: &Path, version: Option<ModuleVersion>, error: &str) {
        let words = match draft.loaded_from(path) {
            Some(_) => "module not reloaded; what was live stays",
            None => "module not loaded",
        };
        let (worker, module, version) = (self.worker(), name_of(path), version.map(display));
        if self.shared.link.is_within_the_process() {
            debug!(worker, module, path = %path.display(), version, error, "{words}");
        } else {
            warn!(worker, module, path = %path.display(), version, error, "{words}");
        }
    }

    fn worker(&self) -> &str {
        &self.shared.identity.worker_id
    }

    /// Asks the control plane, and then lets a catalog go live.
    ///
    /// # Errors
    /// Why it declined. The old one is live then.
    fn publish(&mut self, new: &Catalog, force: bool) -> Result<(), String> {
        let old = self.shared.catalog();
        let new = new.alone().with_revision(old.revision() + 1);
        // Once the control plane has noted it, tasks of new names may come before its answer does.
        self.shared.set_catalog(old.beside(&new));
        let told = self.tell(&new, force);
        if let Told::Declined(why) = told {
            self.shared.set_catalog(old);
            return Err(why);
        }
        // And tasks that were granted before may come after it.
        self.shared.set_catalog(new.beside(&old));
        self.changed = Some(Instant::now());
        if matches!(told, Told::Noted) {
            self.shared.told.store(new.revision(), Ordering::SeqCst);
        }
        Ok(())
    }

    /// Makes up for a change that went live while there was no control plane.
    fn tell_what_is_live(&self, live: &Catalog) {
        if matches!(self.tell(live, true), Told::Noted) {
            self.shared.told.store(live.revision(), Ordering::SeqCst);
        }
    }

    fn tell(&self, catalog: &Catalog, force: bool) -> Told {
        let sequence = self.shared.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let modules = catalog.describe();
        for _ in 0..ASKED_MAX {
            let Some(worker) = self.shared.current_key() else { break };
            let change = CatalogChange { worker, sequence, modules: modules.clone(), force };
            match self.shared.link.ask(&WorkerRequest::Catalog(change), PROMPT) {
                Ok(WorkerReply::Noted) => return Told::Noted,
                Ok(WorkerReply::Declined(why)) => return Told::Declined(why),
                // Whoever registers this worker anew tells what is live then.
                Ok(WorkerReply::Unknown) => break,
                Ok(other) => {
                    error!(?other, "the control plane answered a change of modules with something else");
                    break;
                }
                Err(error) => warn!(%error, "the control plane does not know of a change of modules"),
            }
        }
        Told::ByNobody
    }
}

/// Whether a refusal is told, or another way is tried first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Quiet,
    Told,
}

/// Notes that the file of a module is there, if it was not. Returns whether it was not.
fn note_return(draft: &mut Catalog, path: &Path) -> bool {
    let was_gone = draft.loaded_from(path).is_some() && draft.status(path) != ModuleStatus::Loaded;
    if was_gone {
        draft.set_status(path, ModuleStatus::Loaded);
    }
    was_gone
}

/// What is told of a version that is not taken.
fn failure(why: &str) -> LoadFailure {
    LoadFailure { at: Timestamp::now(), message: why[..why.floor_char_boundary(MESSAGE_MAX)].to_owned() }
}
