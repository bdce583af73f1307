//! The signatures of the loaded tasks, to check the arguments of submitted ones.
//!
//! Separate from the state: a check may walk megabytes of arguments, so it runs without a lock, before a task enters
//! the state. The state reports which tasks were added and removed ([`TaskChange`]), in order; each signature is
//! compiled once.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use lru::DefaultHasher;

use crate::{
    json::Json,
    lock::lock,
    signature::{ArgumentError, Signature},
    task::{ModuleInfo, NewTask},
};

/// A task that a worker started or stopped serving.
#[derive(Clone, Debug)]
pub struct TaskChange {
    name: Arc<str>,
    schema: Json,
    is_added: bool,
}

impl TaskChange {
    /// Returns a change for each task of these modules.
    pub fn of(modules: &[ModuleInfo], is_added: bool) -> impl Iterator<Item = Self> {
        // Of two modules with one task name, the last one counts, as in the registry.
        let tasks: BTreeMap<&str, &Json> =
            modules.iter().flat_map(|module| &module.tasks).map(|task| (task.name.as_str(), &task.schema)).collect();
        tasks.into_iter().map(move |(name, schema)| Self { name: name.into(), schema: schema.clone(), is_added })
    }
}

/// The signatures of the tasks that workers serve.
#[derive(Debug, Default)]
pub struct Signatures {
    /// Changes that are not applied yet.
    changes: Mutex<Vec<TaskChange>>,
    /// Locked while signatures are compiled.
    by_name: Mutex<HashMap<Arc<str>, Vec<SignatureVersion>>>,
    /// Locked for the length of a look-up or an update.
    current: RwLock<HashMap<Arc<str>, Versions, DefaultHasher>>,
}

/// The signatures of the versions of a task, the newest last.
type Versions = Arc<[Arc<Signature>]>;

/// One version of a task.
#[derive(Debug)]
struct SignatureVersion {
    schema: Json,
    signature: Arc<Signature>,
    workers: usize,
}

/// The argument errors of a frame's tasks, by their index. The last index comes first.
#[derive(Debug, Default)]
pub struct ArgumentErrors(Vec<(usize, ArgumentError)>);

impl ArgumentErrors {
    /// Removes and returns the error of the task at this index. Call it in the order of the indexes.
    pub fn take(&mut self, index: usize) -> Option<ArgumentError> {
        let is_it = self.0.last().is_some_and(|(last, _)| *last == index);
        is_it.then(|| self.0.pop()).flatten().map(|(_, error)| error)
    }
}

impl ArgumentErrors {
    /// Sets errors for the tasks of the frame, which replace those of their arguments.
    pub fn set_all(&mut self, errors: impl IntoIterator<Item = Option<ArgumentError>>) {
        for (index, error) in errors.into_iter().enumerate() {
            let Some(error) = error else { continue };
            self.0.retain(|(other, _)| *other != index);
            let at = self.0.partition_point(|(other, _)| *other > index);
            self.0.insert(at, (index, error));
        }
    }
}

impl Signatures {
    /// Records changes in the order in which they happen. Fast: call it under the state's lock.
    pub fn record(&self, changes: Vec<TaskChange>) {
        lock(&self.changes).extend(changes);
    }

    /// Applies the recorded changes. Slow: call it without a lock.
    pub fn apply(&self) {
        let mut by_name = lock(&self.by_name);
        let changes = mem::take(&mut *lock(&self.changes));
        for TaskChange { name, schema, is_added } in changes {
            let versions = by_name.entry(name.clone()).or_default();
            let index = versions.iter().position(|version| version.schema == schema);
            match (index, is_added) {
                (Some(index), true) => {
                    versions[index].workers += 1;
                    continue;
                }
                (Some(index), false) if versions[index].workers > 1 => {
                    versions[index].workers -= 1;
                    continue;
                }
                (Some(index), false) => drop(versions.remove(index)),
                (None, true) => {
                    let signature = Arc::new(Signature::read(&name, &schema));
                    versions.push(SignatureVersion { schema, signature, workers: 1 });
                }
                (None, false) => {}
            }
            let signatures: Versions = versions.iter().map(|version| version.signature.clone()).collect();
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            if signatures.is_empty() {
                current.remove(&name);
                by_name.remove(&name);
            } else {
                current.insert(name, signatures);
            }
        }
    }

    /// Returns why no version of the task accepts this call. None if one does, or if no worker serves the task. With
    /// several versions, the error of the newest one.
    pub fn check(&self, task: &NewTask) -> Option<ArgumentError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let signatures = current.get(task.name.as_str())?.clone();
        drop(current);
        let mut error = None;
        for signature in &*signatures {
            error = Some(signature.check(&task.args, &task.kwargs).err()?);
        }
        error
    }

    /// Checks the tasks of a frame.
    pub fn check_all(&self, tasks: &[NewTask]) -> ArgumentErrors {
        let checked = tasks.iter().enumerate().rev();
        ArgumentErrors(checked.filter_map(|(index, task)| Some((index, self.check(task)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Policy, TaskInfo, TaskLimits};

    fn module(types: &str) -> Vec<ModuleInfo> {
        let schema = format!(r#"{{"parameters": [{{"name": "x", "type": "{types}", "required": true}}]}}"#);
        let task = TaskInfo {
            name: "add".into(),
            full_name: None,
            documentation: String::new(),
            schema: Json::parse(&schema).expect("JSON"),
            policy: Policy::default(),
            limits: TaskLimits::default(),
            schedule: None,
            needs: Vec::new(),
            warnings: Vec::new(),
        };
        vec![ModuleInfo { name: "module".into(), tasks: vec![task], ..ModuleInfo::default() }]
    }

    #[test]
    fn a_call_is_refused_only_if_no_served_version_accepts_it() {
        let signatures = Signatures::default();
        let call = |args: &str| NewTask { args: Json::parse(args).expect("JSON"), ..NewTask::new("add") };
        let change = |types: &str, is_added| {
            signatures.record(TaskChange::of(&module(types), is_added).collect());
            signatures.apply();
        };
        let refused = |args: &str| signatures.check(&call(args)).map(|error| error.to_string());
        assert_eq!(refused(r#"["x"]"#), None);
        change("i64", true);
        change("i64", true);
        assert_eq!(refused("[1]"), None);
        assert_eq!(refused(r#"["x"]"#).as_deref(), Some(r#"args[0]: expected integer, found string "x""#));
        change("bool", true);
        assert_eq!((refused("[1]"), refused("[true]")), (None, None));
        assert_eq!(refused(r#"["x"]"#).as_deref(), Some(r#"args[0]: expected boolean, found string "x""#));
        change("i64", false);
        assert_eq!(refused("[1]"), None);
        change("i64", false);
        assert!(refused("[1]").is_some() && refused("[true]").is_none());
        change("bool", false);
        assert_eq!(refused("[1]"), None);
        assert!(signatures.by_name.lock().expect("a lock").is_empty());
    }

    #[test]
    fn argument_errors_are_found_by_their_index() {
        let signatures = Signatures::default();
        signatures.record(TaskChange::of(&module("i64"), true).collect());
        signatures.apply();
        let call = |args: &str| NewTask { args: Json::parse(args).expect("JSON"), ..NewTask::new("add") };
        let mut errors = signatures.check_all(&[call("[1]"), call("[]"), call("[2]"), call("[3.5]")]);
        let found: Vec<bool> = (0..4).map(|index| errors.take(index).is_some()).collect();
        assert_eq!(found, [false, true, false, true]);
    }
}
