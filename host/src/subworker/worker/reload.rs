//! Hot reload: what changes in the files of modules goes live while the slots work.
//!
//! A version is loaded aside first. Then the control plane is asked, which declines when tasks
//! wait that could not run any more. Only then the catalog changes, at once for all slots; attempts
//! under way finish on the version that they began with. Invariant: at every moment each name that
//! may be granted is found, so no change loses a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use tracing::{debug, error, field::display, info, warn};

use super::{Loading, LoadingEnd, PROMPT, Shared, spawn};
use crate::{
    clock::{self, Timestamp},
    protocol::{CatalogChange, WorkerReply, WorkerRequest},
    runtime::{
        Catalog, Change, Content, LOADS_MAX, LoadError, Module, ModuleError, Pace, SourceError, Watch, WatchEnd,
        awaited, in_order, name_of,
    },
    task::{LoadFailure, ModuleStatus, ModuleVersion},
};

/// How long a name that went is still found: no lease of before takes longer to begin.
const BESIDE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a failure that are kept.
const MESSAGE_MAX: usize = 2_000;
/// How often the control plane is asked about a change before it goes live without its word.
const ASKED_MAX: usize = 2;
/// The pause before a module is loaded again that could not be for a reason which may pass. It doubles with
/// each try, up to the other.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(5);

/// What a worker's modules are loaded from, and how they change.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Files, globs and folders.
    pub sources: Vec<String>,
    /// How long a module may be gone from its folder.
    pub grace: Duration,
    /// Whether modules change although tasks wait that could not run any more.
    pub force: bool,
    /// Whether what changes after the start counts.
    pub watch: bool,
}

/// The thread that loads, and then reloads.
pub(super) struct Reloader {
    shared: Arc<Shared>,
    watch: Watch,
    /// Whether what changes after the start counts.
    watching: bool,
    /// Whether there is something to look at although nothing after the start counts.
    look_again: bool,
    force: bool,
    /// Versions that are to be loaded.
    wanted: BTreeMap<PathBuf, Wanted>,
    loader: Loader,
    /// Versions that are loaded and not live yet.
    candidates: BTreeMap<PathBuf, Candidate>,
    /// When the catalog changed last, while what it was before is still beside it.
    changed: Option<Instant>,
    start: Start,
}

/// What is special about the modules that are there at the start.
struct Start {
    at: Instant,
    loading: Loading,
    /// Of two that have a task of one name, the one that comes first here has it, whichever is loaded first.
    order: BTreeMap<PathBuf, usize>,
    /// Those that are neither loaded nor refused yet.
    left: BTreeSet<PathBuf>,
    /// Sources that led to nothing.
    awaited: Vec<String>,
    /// Whether nothing was looked at yet.
    is_new: bool,
}

/// A version that is to be loaded.
struct Wanted {
    content: Content,
    /// Small ones go first.
    size: u64,
    since: Instant,
    /// When it is tried again, after it failed for a reason that may pass; and how often it has.
    retry: Option<(Instant, u32)>,
}

/// Loads several modules at a time, each on a thread of its own, so that none waits for another and the watch
/// goes on meanwhile.
struct Loader {
    busy: Vec<Load>,
    sender: Sender<LoadedVersion>,
    receiver: Receiver<LoadedVersion>,
    end: WatchEnd,
}

/// A module that is being loaded.
struct Load {
    path: PathBuf,
    content: Content,
    unwanted: Arc<AtomicBool>,
}

type LoadedVersion = (PathBuf, Content, Result<Option<Module>, LoadError>);

impl Loader {
    fn has(&self, path: &Path, content: Content) -> bool {
        self.busy.iter().any(|load| load.path == path && load.content == content)
    }

    /// Gives up what is being loaded from a path, or all.
    fn give_up(&self, path: Option<&Path>) {
        let loads = self.busy.iter().filter(|load| path.is_none_or(|path| load.path == path));
        loads.for_each(|load| load.unwanted.store(true, Ordering::Relaxed));
    }
}

impl Wanted {
    fn is_due(&self) -> bool {
        self.retry.is_none_or(|(at, _)| at <= Instant::now())
    }
}

struct Candidate {
    module: Module,
    /// Whether it was told that it is not taken.
    turned_down: bool,
    /// How long loading it took.
    took: Duration,
}

/// What became of a change.
enum Told {
    Noted,
    Declined(String),
    /// There is no control plane to ask.
    ByNobody,
}

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>, reload: Reload) -> (Self, WatchEnd, Loading) {
        let Reload { sources, grace, force, watch: watching } = reload;
        let module_max = shared.runtime.config().module_max;
        let order = in_order(&sources).into_iter().enumerate().map(|(place, path)| (path, place)).collect();
        let loading = Loading::begin();
        let start = Start {
            at: Instant::now(),
            loading: loading.clone(),
            order,
            left: BTreeSet::new(),
            awaited: sources.clone(),
            is_new: true,
        };
        let (watch, end) = Watch::new(sources, &shared.catalog(), grace, module_max);
        let (sender, receiver) = mpsc::channel();
        let loader = Loader { busy: Vec::new(), sender, receiver, end: end.clone() };
        let (wanted, candidates) = (BTreeMap::new(), BTreeMap::new());
        let look_again = false;
        let this =
            Self { shared, watch, watching, look_again, force, wanted, loader, candidates, changed: None, start };
        (this, end, loading)
    }

    pub(super) fn run(mut self) {
        while self.watch.wait() && !self.shared.is_draining() {
            self.turn();
            if !self.watching && self.has_nothing_to_do() {
                break;
            }
        }
        self.loader.give_up(None);
        self.start.loading.give_up();
    }

    fn has_nothing_to_do(&self) -> bool {
        let is_told = self.shared.told.load(Ordering::SeqCst) == self.shared.catalog().revision();
        self.wanted.is_empty() && !self.look_again && is_told
    }

    /// Looks once, and does what there is to do.
    fn turn(&mut self) {
        if self.changed.is_some_and(|at| at.elapsed() >= BESIDE_MAX) {
            self.changed = None;
            self.shared.set_catalog(self.shared.catalog().alone());
        }
        let mut draft = self.shared.catalog().alone();
        let mut noted = self.look_for_sources(&mut draft);
        if self.watching || self.start.is_new || self.look_again {
            self.look_again = false;
            let mut changes = Vec::new();
            self.watch.look(|change| changes.push(change));
            for change in changes {
                noted |= self.take(&mut draft, change);
            }
        }
        if std::mem::take(&mut self.start.is_new) {
            self.start.left = self.wanted.keys().cloned().collect();
        }
        while let Ok((path, content, loaded)) = self.loader.receiver.try_recv() {
            self.loader.busy.retain(|load| load.path != path || load.content != content);
            // Unless it was changed again meanwhile.
            if self.wanted.get(&path).is_some_and(|wanted| wanted.content == content) {
                noted |= self.take_loaded(&mut draft, &path, loaded);
            }
        }
        self.load_next();
        self.settle(draft, noted);
        self.tell_of_the_start();
    }

    /// Notes the sources that lead to nothing, and forgets those that do no more. Returns whether the draft
    /// has changed.
    fn look_for_sources(&mut self, draft: &mut Catalog) -> bool {
        let (is_new, worker) = (self.start.is_new, &self.shared.identity.worker_id);
        let mut noted = false;
        self.start.awaited.retain(|source| {
            let path = Path::new(source);
            match awaited(source) {
                Some(why @ (SourceError::Missing(_) | SourceError::Unreadable { .. })) => {
                    if is_new {
                        warn!(worker, %why, "its modules are loaded once it is there");
                        draft.set_error(path, failure(&format!("{why}; its modules are loaded once it is there")));
                        noted = true;
                    }
                    return true;
                }
                Some(why) if is_new => warn!(worker, %why, "modules are loaded once they are there"),
                _ => {}
            }
            if !is_new {
                draft.clear_notes(path);
                noted = true;
            }
            false
        });
        noted
    }

    /// Tells once when all is loaded or refused that was there at the start.
    fn tell_of_the_start(&mut self) {
        if !self.start.loading.is_under_way() {
            return;
        }
        let is_left = |path: &PathBuf| self.wanted.get(path).is_some_and(|wanted| wanted.retry.is_none());
        self.start.left.retain(is_left);
        if !self.start.left.is_empty() {
            return;
        }
        let infos = self.shared.catalog().describe();
        let modules = infos.iter().filter(|info| !info.hash.is_empty()).count();
        let broken = infos.iter().filter(|info| info.last_error.is_some()).count();
        let tasks = infos.iter().map(|info| info.tasks.len()).sum();
        let took_s = clock::seconds(self.start.at.elapsed());
        info!(worker = self.worker(), modules, broken, tasks, took_s, "all modules are loaded or refused");
        self.start.loading.end(LoadingEnd { modules, broken, tasks });
    }

    /// Begins to load the versions that are wanted, the smallest first.
    fn load_next(&mut self) {
        while self.loader.busy.len() < LOADS_MAX {
            let is_next =
                |(path, wanted): &(&PathBuf, &Wanted)| wanted.is_due() && !self.loader.has(path, wanted.content);
            let next = self.wanted.iter().filter(is_next).min_by_key(|(_, wanted)| wanted.size);
            let Some((path, content)) = next.map(|(path, wanted)| (path.clone(), wanted.content)) else { return };
            let unwanted = Arc::new(AtomicBool::new(false));
            let load = Load { path: path.clone(), content, unwanted: Arc::clone(&unwanted) };
            let runtime = self.shared.runtime.clone();
            let (sender, end) = (self.loader.sender.clone(), self.loader.end.clone());
            let pace = if self.start.loading.is_under_way() { Pace::Fast } else { Pace::Beside };
            let run = move || {
                let loaded = runtime.load_aside(&path, content, pace, &unwanted);
                let _ = sender.send((path, content, loaded));
                end.wake();
            };
            match spawn("fw-loader".into(), run) {
                Ok(_) => self.loader.busy.push(load),
                Err(error) => {
                    error!(%error, "cannot start a thread to load a module: trying again");
                    return;
                }
            }
        }
    }

    /// Takes in what was loaded. Returns whether the draft has changed.
    fn take_loaded(&mut self, draft: &mut Catalog, path: &Path, loaded: Result<Option<Module>, LoadError>) -> bool {
        let Some(wanted) = self.wanted.remove(path) else { return false };
        match loaded {
            Ok(Some(module)) => {
                let candidate = Candidate { turned_down: false, module, took: wanted.since.elapsed() };
                self.candidates.insert(path.to_owned(), candidate);
                false
            }
            Ok(None) => {
                // It has changed since.
                self.watch.offer_again(path);
                self.look_again = true;
                false
            }
            Err(LoadError { why, .. }) => {
                if why.may_pass() {
                    let tries = wanted.retry.map_or(0, |(_, tries)| tries) + 1;
                    let pause = RETRY_FIRST.saturating_mul(1 << tries.min(10).saturating_sub(1)).min(RETRY_MAX);
                    let retry = Some((Instant::now() + pause, tries));
                    self.wanted.insert(path.to_owned(), Wanted { retry, ..wanted });
                }
                self.refuse(draft, path, &why)
            }
        }
    }

    /// Notes that a file is of no use. Returns whether the draft has changed.
    fn refuse(&mut self, draft: &mut Catalog, path: &Path, why: &ModuleError) -> bool {
        self.candidates.remove(path);
        let error = why.to_string();
        self.log_refusal(draft, path, None, &error);
        draft.set_error(path, failure(&error));
        true
    }

    /// Takes in what became of a file. Returns whether the draft has changed.
    fn take(&mut self, draft: &mut Catalog, change: Change) -> bool {
        match change {
            Change::New(path, Ok(content)) => return self.take_content(draft, &path, content),
            Change::New(path, Err(why)) => {
                self.want_no_more(&path);
                note_return(draft, &path);
                return self.refuse(draft, &path, &why);
            }
            Change::Back(path) => {
                if let Some(module) = draft.loaded_from(&path) {
                    let version = module.version();
                    let module = name_of(&path);
                    info!(worker = self.worker(), module, path = %crate::visible::path(&path), %version, "module returned");
                    draft.set_status(&path, ModuleStatus::Loaded);
                }
            }
            Change::Missing(path) => match draft.loaded_from(&path) {
                Some(module) => {
                    let version = module.version();
                    let (worker, module) = (self.worker(), name_of(&path));
                    warn!(worker, module, path = %crate::visible::path(&path), %version, "module missing: the version that was loaded runs on");
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

    /// Gives up what is wanted of a file.
    fn want_no_more(&mut self, path: &Path) {
        self.wanted.remove(path);
        self.loader.give_up(Some(path));
    }

    fn take_content(&mut self, draft: &mut Catalog, path: &Path, content: Content) -> bool {
        self.want_no_more(path);
        let is_it = |module: &&Module| *module.content() == content;
        if let Some(module) = draft.loaded_from(path).filter(is_it) {
            let version = module.version();
            let module = name_of(path);
            info!(worker = self.worker(), module, path = %crate::visible::path(path), %version, "module is as it was before");
            self.candidates.remove(path);
            draft.clear_notes(path);
            return true;
        }
        if self.candidates.get(path).is_none_or(|candidate| *candidate.module.content() != content) {
            self.candidates.remove(path);
            let size = fs::metadata(path).map_or(0, |meta| meta.len());
            let wanted = Wanted { content, size, since: Instant::now(), retry: None };
            self.wanted.insert(path.to_owned(), wanted);
            if draft.loaded_from(path).is_none() {
                draft.set_loading(path);
                return true;
            }
        }
        note_return(draft, path)
    }

    /// Forgets a file that is gone, and of which nothing runs.
    fn forget(&mut self, draft: &mut Catalog, path: &Path) {
        draft.clear_notes(path);
        self.candidates.remove(path);
        self.want_no_more(path);
        self.watch.forget(path);
    }

    /// Lets the draft go live, with as many of the candidates as can.
    fn settle(&mut self, mut draft: Catalog, mut noted: bool) {
        // One whose file is gone again waits for its return.
        let is_there = |path: &&PathBuf| matches!(draft.status(path), ModuleStatus::Loaded | ModuleStatus::Loading);
        let mut paths: Vec<PathBuf> = self.candidates.keys().filter(is_there).cloned().collect();
        paths.sort_by_key(|path| self.start.order.get(path).copied().unwrap_or(usize::MAX));
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
                info!(worker, module, path = %crate::visible::path(&path), version, "module dropped: its file is gone");
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
            Ok(displaced) => match self.publish(&trial, self.force) {
                Ok(()) => {
                    self.keep_displaced(draft, displaced);
                    None
                }
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

    /// Puts candidates into a catalog. Returns the modules that had to go because these come before them.
    fn put_all(&self, trial: &mut Catalog, paths: &[PathBuf]) -> Result<Vec<Module>, LoadError> {
        let modules = paths.iter().filter_map(|path| self.candidates.get(path));
        let modules: Vec<Module> = modules.map(|candidate| candidate.module.clone()).collect();
        let mut displaced = Vec::new();
        for module in &modules {
            for task in &module.info().tasks {
                let other = trial.find(&task.name).map(|other| other.path().to_owned());
                let Some(other) = other.filter(|other| !paths.contains(other)) else { continue };
                if self.watch.gives_way(&other) {
                    // A file that was renamed takes over from itself.
                    trial.remove(&other);
                } else if self.comes_before(module.path(), &other) {
                    displaced.extend(trial.remove(&other));
                    let why = ModuleError::TaskTaken { task: task.name.clone(), other: module.path().to_owned() };
                    trial.set_error(&other, failure(&why.to_string()));
                }
            }
        }
        trial.put_together(modules)?;
        // Whichever was loaded first.
        trial.order_by(|path| (self.start.order.get(path).copied().unwrap_or(usize::MAX), path.to_owned()));
        Ok(displaced)
    }

    /// Whether the module at `path` has the tasks that both have, although the other was loaded before it.
    fn comes_before(&self, path: &Path, other: &Path) -> bool {
        let place = |path: &Path| self.start.order.get(path);
        let both = place(path).zip(place(other));
        self.start.loading.is_under_way() && both.is_some_and(|(path, other)| path < other)
    }

    /// Keeps the modules that had to go, in case that those which came before them leave.
    fn keep_displaced(&mut self, old: &Catalog, displaced: Vec<Module>) {
        for module in displaced {
            let path = module.path().to_owned();
            self.log_refusal(old, &path, Some(module.version()), "another module that comes before it has its tasks");
            self.candidates.insert(path, Candidate { module, turned_down: true, took: Duration::ZERO });
        }
    }

    fn told_of_new(&mut self, old: &Catalog, paths: &[PathBuf]) {
        for path in paths {
            let Some(Candidate { module, took, .. }) = self.candidates.remove(path) else { continue };
            let before = old.loaded_from(path).map(|before| display(before.version()));
            let (worker, name, version) = (self.worker(), &module.info().name, module.version());
            let tasks = module.info().tasks.len();
            let words = if before.is_some() { "module reloaded" } else { "module loaded" };
            let took_s = clock::seconds(took);
            info!(worker, module = name, path = %crate::visible::path(path), %version, before, tasks, took_s, "{words}");
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
            debug!(worker, module, path = %crate::visible::path(path), version, error, "{words}");
        } else {
            warn!(worker, module, path = %crate::visible::path(path), version, error, "{words}");
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
