//! A task module that can run.
//!
//! Invariant: a [`Module`] has been instantiated once and has registered its tasks, under the same
//! limits as any attempt.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{call::PreparedModule, entry::Entry};
use crate::task::{AttemptLimits, ModuleInfo, ModuleVersion, TaskInfo};

/// A task module that can run. Cheap to clone; it stays in memory while attempts run on it.
#[derive(Clone)]
pub struct Module(Arc<LoadedModule>);

pub(super) struct LoadedModule {
    pub(super) info: ModuleInfo,
    pub(super) version: ModuleVersion,
    pub(super) content: [u8; 32],
    pub(super) path: PathBuf,
    /// The index of each task in `info.tasks`, by its name.
    pub(super) task_index: HashMap<String, usize>,
    /// The limits of each task in `info.tasks`.
    pub(super) limits: Vec<AttemptLimits>,
    pub(super) prepared: PreparedModule,
    pub(super) entry: Entry,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.path).field(&self.hash()).finish()
    }
}

impl Module {
    pub(super) fn new(loaded: LoadedModule) -> Self {
        Self(Arc::new(loaded))
    }

    /// Its description.
    pub fn info(&self) -> &ModuleInfo {
        &self.0.info
    }

    /// The path of its file, as given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// BLAKE3 of the file, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.0.info.hash
    }

    /// BLAKE3 of the file.
    pub fn content(&self) -> &[u8; 32] {
        &self.0.content
    }

    /// The version of the file, as results name it.
    pub fn version(&self) -> ModuleVersion {
        self.0.version
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<&TaskInfo> {
        self.0.task_index.get(name).map(|index| &self.0.info.tasks[*index])
    }

    /// The limits of an attempt of the task of that name.
    pub(super) fn limits(&self, task: &str) -> Option<&AttemptLimits> {
        self.0.task_index.get(task).map(|index| &self.0.limits[*index])
    }

    /// Whether its tasks are the functions of a plain component, whose names nobody chose as names of tasks.
    pub fn is_plain(&self) -> bool {
        matches!(self.0.entry, Entry::Functions(_))
    }

    /// The module to instantiate for an attempt.
    pub(super) fn prepared(&self) -> &PreparedModule {
        &self.0.prepared
    }

    /// How its tasks are called.
    pub(super) fn entry(&self) -> &Entry {
        &self.0.entry
    }
}

/// The name of a module: that of its file, without the extension.
pub(crate) fn module_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
