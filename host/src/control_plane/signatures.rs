//! Which calls the loaded tasks take, for whoever submits.
//!
//! Beside the state and not in it: a check may walk megabytes of arguments, so it runs under no lock,
//! before a task enters the state. The state says which tasks came and went ([`Change`]), in order;
//! this keeps the signatures of those that are there, each compiled once.

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

/// A worker came to offer a task, or ceased to.
#[derive(Clone, Debug)]
pub struct Change {
    name: Arc<str>,
    schema: Json,
    is_offered: bool,
}

impl Change {
    /// All that a worker offers with these modules, or ceases to offer.
    pub fn of(modules: &[ModuleInfo], is_offered: bool) -> impl Iterator<Item = Self> {
        // Of two modules with one name, the last one's word counts, as in the roster.
        let tasks: BTreeMap<&str, &Json> =
            modules.iter().flat_map(|module| &module.tasks).map(|task| (task.name.as_str(), &task.schema)).collect();
        tasks.into_iter().map(move |(name, schema)| Self { name: name.into(), schema: schema.clone(), is_offered })
    }
}

/// The signatures of the tasks that are there.
#[derive(Debug, Default)]
pub struct Signatures {
    /// What was not taken into account yet.
    changes: Mutex<Vec<Change>>,
    /// Locked while signatures are made.
    by_name: Mutex<HashMap<Arc<str>, Vec<Offer>>>,
    /// Locked for the length of a look or of a change.
    current: RwLock<HashMap<Arc<str>, Versions, DefaultHasher>>,
}

/// The signatures of the versions of a task, the newest last.
type Versions = Arc<[Arc<Signature>]>;

/// One version of a task.
#[derive(Debug)]
struct Offer {
    schema: Json,
    signature: Arc<Signature>,
    workers: usize,
}

/// The tasks of a frame that do not fit, by their place in it.
#[derive(Debug, Default)]
pub struct ArgumentErrors(Vec<(usize, ArgumentError)>);

impl ArgumentErrors {
    /// Takes out what is known of the task at this place. Ask in the order of the places.
    pub fn take(&mut self, place: usize) -> Option<ArgumentError> {
        let is_it = self.0.last().is_some_and(|(last, _)| *last == place);
        is_it.then(|| self.0.pop()).flatten().map(|(_, error)| error)
    }
}

impl ArgumentErrors {
    /// Notes what is known of each task of the frame otherwise, which counts for more.
    pub fn set_all(&mut self, errors: impl IntoIterator<Item = Option<ArgumentError>>) {
        for (place, error) in errors.into_iter().enumerate() {
            let Some(error) = error else { continue };
            self.0.retain(|(other, _)| *other != place);
            let at = self.0.partition_point(|(other, _)| *other > place);
            self.0.insert(at, (place, error));
        }
    }
}

impl Signatures {
    /// Notes changes in the order in which they happen. Quick: call it under the state's lock.
    pub fn note(&self, changes: Vec<Change>) {
        lock(&self.changes).extend(changes);
    }

    /// Takes what was noted into account. Call it under no lock.
    pub fn settle(&self) {
        let mut by_name = lock(&self.by_name);
        let changes = mem::take(&mut *lock(&self.changes));
        for Change { name, schema, is_offered } in changes {
            let offers = by_name.entry(name.clone()).or_default();
            let known = offers.iter().position(|offer| offer.schema == schema);
            match (known, is_offered) {
                (Some(known), true) => {
                    offers[known].workers += 1;
                    continue;
                }
                (Some(known), false) if offers[known].workers > 1 => {
                    offers[known].workers -= 1;
                    continue;
                }
                (Some(known), false) => drop(offers.remove(known)),
                (None, true) => {
                    let signature = Arc::new(Signature::read(&name, &schema));
                    offers.push(Offer { schema, signature, workers: 1 });
                }
                (None, false) => {}
            }
            let signatures: Versions = offers.iter().map(|offer| offer.signature.clone()).collect();
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            if signatures.is_empty() {
                current.remove(&name);
                by_name.remove(&name);
            } else {
                current.insert(name, signatures);
            }
        }
    }

    /// Why no version of the task takes this call; none if one does or nobody offers the task. With
    /// several versions, the newest one's reason.
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

    /// The tasks of a frame that do not fit.
    pub fn errors(&self, tasks: &[NewTask]) -> ArgumentErrors {
        let checked = tasks.iter().enumerate().rev();
        ArgumentErrors(checked.filter_map(|(place, task)| Some((place, self.check(task)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Policy, TaskInfo};

    fn module(types: &str) -> Vec<ModuleInfo> {
        let schema = format!(r#"{{"parameters": [{{"name": "x", "type": "{types}", "required": true}}]}}"#);
        let task = TaskInfo {
            name: "add".into(),
            documentation: String::new(),
            schema: Json::parse(&schema).expect("JSON"),
            policy: Policy::default(),
            schedule: None,
            warnings: Vec::new(),
        };
        vec![ModuleInfo { name: "module".into(), tasks: vec![task], ..ModuleInfo::default() }]
    }

    #[test]
    fn a_call_is_refused_only_if_no_version_that_is_there_takes_it() {
        let signatures = Signatures::default();
        let call = |args: &str| NewTask { args: Json::parse(args).expect("JSON"), ..NewTask::new("add") };
        let change = |types: &str, is_offered| {
            signatures.note(Change::of(&module(types), is_offered).collect());
            signatures.settle();
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
    fn misfits_are_told_by_their_places() {
        let signatures = Signatures::default();
        signatures.note(Change::of(&module("i64"), true).collect());
        signatures.settle();
        let call = |args: &str| NewTask { args: Json::parse(args).expect("JSON"), ..NewTask::new("add") };
        let mut errors = signatures.errors(&[call("[1]"), call("[]"), call("[2]"), call("[3.5]")]);
        let found: Vec<bool> = (0..4).map(|place| errors.take(place).is_some()).collect();
        assert_eq!(found, [false, true, false, true]);
    }
}
