//! Policies that the operator sets, by module and task, over those of the modules.
//!
//! Plain components and programs declare no policy, so this is the only one that their tasks have.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    descriptor::{self, Keys, POLICY_KEYS, SCHEDULE_KEYS},
    grants::{Grants, Need},
};
use crate::{
    nearest::did_you_mean,
    task::{AttemptLimits, LimitKind, Policy, ScheduleSpec, TaskInfo, TaskLimits, UngrantedTask},
};

/// What the operator sets for a task, or for all tasks of a module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskSettings {
    policy: Policy,
    schedule: Option<ScheduleSpec>,
    needs: Option<Vec<Need>>,
    limits: TaskLimits,
}

/// A key of [`TaskSettings`] with a wrong value, or a key that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    /// The key; of several keys that do not fit together, the first.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl TaskSettings {
    /// The keys that a module can set for all of its tasks.
    pub const MODULE_KEYS: [&'static str; 17] = POLICY_KEYS;
    /// The keys that only a task can set, as they schedule it.
    pub const SCHEDULE_KEYS: [&'static str; 6] = SCHEDULE_KEYS;

    /// Reads settings from the keys and values of a policy, as in `wit/v1/task.wit`.
    ///
    /// # Errors
    /// All [`SettingError`]s of the keys.
    pub fn read(values: &Map<String, Value>) -> Result<Self, Vec<SettingError>> {
        let (schedule, policy): (Vec<_>, Vec<_>) =
            values.iter().partition(|(key, _)| SCHEDULE_KEYS.contains(&key.as_str()));
        let (mut settings, mut errors) = (Self::default(), Vec::new());
        // Each key alone, so that an error belongs to one; the keys of a schedule are one value.
        let groups = policy.into_iter().map(|pair| vec![pair]).chain([schedule]);
        for group in groups.filter(|group| !group.is_empty()) {
            let key = group[0].0.clone();
            let object: Map<String, Value> =
                group.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let read = descriptor::parse_policy(&Value::Object(object).to_string(), Keys::Policy);
            let unknown = read.unknown.iter().map(|key| match did_you_mean(key, Self::MODULE_KEYS) {
                Some(suggestion) => format!("unknown key '{key}': {suggestion}"),
                None => format!("unknown key '{key}'"),
            });
            let messages = read.errors.into_iter().chain(unknown);
            errors.extend(messages.map(|message| SettingError { key: key.clone(), message }));
            settings.policy = settings.policy.or(&read.policy);
            settings.schedule = settings.schedule.or(read.schedule);
            settings.needs = settings.needs.or(read.needs);
            read.limits.iter().for_each(|(kind, limit)| settings.limits.set(kind, limit));
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// Applies all but the schedule.
    fn apply_policy(&self, task: &mut TaskInfo) {
        task.policy = self.policy.or(&task.policy);
        if let Some(needs) = &self.needs {
            task.needs = needs.iter().map(ToString::to_string).collect();
        }
    }

    fn apply(&self, task: &mut TaskInfo) {
        self.apply_policy(task);
        let Some(schedule) = &self.schedule else { return };
        match descriptor::required_parameters(&task.schema).first() {
            None => task.schedule = Some(schedule.clone()),
            Some(name) => {
                task.warnings.push(format!("the task is not scheduled: a call must have its argument '{name}'"));
            }
        }
    }
}

/// The settings of tasks, by module and task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyTable {
    /// By module name, then by task name; none for all tasks of the module.
    settings: BTreeMap<String, BTreeMap<Option<String>, TaskSettings>>,
}

impl PolicyTable {
    /// Sets the settings of a task of a module, or of all its tasks, whose own settings take precedence.
    pub fn set(&mut self, module: &str, task: Option<&str>, settings: TaskSettings) {
        self.settings.entry(module.to_owned()).or_default().insert(task.map(str::to_owned), settings);
    }

    /// The largest memory that an attempt of any task may have, in bytes.
    pub(super) fn memory_max(&self, worker: &AttemptLimits) -> u64 {
        let settings = self.settings.values().flat_map(BTreeMap::values);
        let limits = settings.filter_map(|settings| settings.limits.get(LimitKind::Memory));
        limits.fold(worker.get(LimitKind::Memory), u64::max)
    }

    /// Applies the settings to the tasks of a module, and the limits of the worker. Returns the names with settings
    /// that are no task of it.
    pub(super) fn apply(&self, module: &str, worker: &AttemptLimits, tasks: &mut [TaskInfo]) -> Vec<String> {
        let none = BTreeMap::new();
        let settings = self.settings.get(module).unwrap_or(&none);
        let short_names: BTreeMap<String, String> =
            tasks.iter().filter_map(|task| Some((task.full_name.clone()?, task.name.clone()))).collect();
        for task in &mut *tasks {
            let of_module = settings.get(&None);
            // A function of a plain component is one task with two names, and is scheduled under one of them.
            let other_name = task.full_name.as_ref().or_else(|| short_names.get(&task.name)).cloned();
            let of_other_name = other_name.and_then(|name| settings.get(&Some(name)));
            // The task's own come last, so that they replace those of its module.
            let own = settings.get(&Some(task.name.clone()));
            of_module.inspect(|settings| settings.apply(task));
            of_other_name.inspect(|settings| settings.apply_policy(task));
            own.inspect(|settings| settings.apply(task));
            let mut limits = TaskLimits::default();
            for settings in [of_module, of_other_name, own].into_iter().flatten() {
                settings.limits.iter().for_each(|(kind, limit)| limits.set(kind, limit));
            }
            apply_limits(task, worker, &limits);
        }
        let is_unknown = |name: &&String| !tasks.iter().any(|task| task.name == **name);
        settings.keys().flatten().filter(is_unknown).cloned().collect()
    }
}

/// Limits a task to what it declares, and at most to what the operator sets for it or else for the worker.
fn apply_limits(task: &mut TaskInfo, worker: &AttemptLimits, operators: &TaskLimits) {
    let declared = std::mem::take(&mut task.limits);
    for kind in LimitKind::ALL {
        let max = operators.get(kind).unwrap_or_else(|| worker.get(kind));
        let limit = declared.get(kind).map_or(max, |declared| declared.min(max));
        if let Some(beyond) = declared.get(kind).filter(|declared| *declared > max) {
            let (beyond, max) = (kind.show(beyond), kind.show(max));
            let set_by = match operators.get(kind) {
                Some(_) => format!("see {kind} in fastworker.toml"),
                None => format!("see {}", kind.option()),
            };
            task.warnings.push(format!("{kind} is {beyond}, and this worker allows {max}: {set_by}"));
        }
        if limit != worker.get(kind) {
            task.limits.set(kind, limit);
        }
    }
}

/// Warns of tasks that may have less memory than an instance of their module takes before they run.
pub(super) fn warn_of_memory(worker: &AttemptLimits, at_start: u64, tasks: &mut [TaskInfo]) {
    for task in tasks {
        let max = worker.of(&task.limits).get(LimitKind::Memory);
        if max < at_start {
            let [max, at_start] = [max, at_start].map(|bytes| LimitKind::Memory.show(bytes));
            task.warnings.push(format!(
                "{} is {max}, and the module takes {at_start} before it runs: every attempt fails",
                LimitKind::Memory
            ));
        }
    }
}

/// Removes the tasks that need more than these grants.
pub(super) fn without_ungranted(tasks: Vec<TaskInfo>, grants: &Grants) -> (Vec<TaskInfo>, Vec<UngrantedTask>) {
    let mut ungranted = Vec::new();
    let granted = tasks.into_iter().filter(|task| {
        let needs: Vec<Need> = task.needs.iter().filter_map(|need| need.parse().ok()).collect();
        let missing = grants.missing(&needs);
        let is_granted = missing.is_empty();
        if !is_granted {
            ungranted.push(UngrantedTask { name: task.name.clone(), missing });
        }
        is_granted
    });
    (granted.collect(), ungranted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{json::Json, task::TaskPriority};

    fn task(name: &str) -> TaskInfo {
        TaskInfo {
            name: name.into(),
            full_name: None,
            documentation: String::new(),
            schema: Json::empty_object(),
            policy: Policy { max_retries: Some(1), timeout: Some(Duration::from_secs(1)), ..Policy::default() },
            limits: TaskLimits::default(),
            schedule: None,
            needs: vec!["tcp:db:1".into()],
            warnings: Vec::new(),
        }
    }

    fn settings(json: &str) -> Result<TaskSettings, Vec<SettingError>> {
        TaskSettings::read(&serde_json::from_str(json).expect("an object"))
    }

    #[test]
    fn settings_of_a_task_replace_those_of_its_module_and_its_own() {
        let mut table = PolicyTable::default();
        table.set("m", None, settings(r#"{"timeout": "5s", "priority": "low", "needs": []}"#).expect("settings"));
        table.set(
            "m",
            Some("a"),
            settings(r#"{"timeout": 9, "every": "1h", "needs": ["env:KEY"]}"#).expect("settings"),
        );
        table.set("m", Some("gone"), TaskSettings::default());
        let mut tasks = [task("a"), task("b")];
        let worker = AttemptLimits::default();
        assert_eq!(table.apply("m", &worker, &mut tasks), ["gone"]);
        let [a, b] = &tasks;
        assert_eq!((a.policy.timeout, b.policy.timeout), (Some(Duration::from_secs(9)), Some(Duration::from_secs(5))));
        assert_eq!((a.policy.priority, a.policy.max_retries), (Some(TaskPriority::Low), Some(1)));
        assert_eq!((a.schedule.is_some(), b.schedule.is_some()), (true, false));
        assert_eq!((a.needs.as_slice(), b.needs.len()), (&["env:KEY".to_owned()][..], 0));
        let mut others = [task("a")];
        assert!(table.apply("n", &worker, &mut others).is_empty() && others == [task("a")]);
    }

    #[test]
    fn a_task_gets_what_it_declares_and_at_most_what_the_operator_allows() {
        let worker = AttemptLimits::default().with(LimitKind::Memory, 100 << 20).with(LimitKind::Log, 1000);
        let declare = |kind, limit| {
            let mut task = task("a");
            task.limits.set(kind, limit);
            task
        };
        let mut tasks = [declare(LimitKind::Memory, 10 << 20), declare(LimitKind::Memory, 200 << 20)];
        assert!(PolicyTable::default().apply("m", &worker, &mut tasks).is_empty());
        assert_eq!((tasks[0].limits.get(LimitKind::Memory), tasks[0].warnings.len()), (Some(10 << 20), 0));
        assert!(tasks[1].limits.is_empty());
        assert_eq!(tasks[1].warnings, ["max_memory is 200 MiB, and this worker allows 100 MiB: see --max-memory"]);
        let mut table = PolicyTable::default();
        table.set("m", None, settings(r#"{"max_memory": "150MiB", "max_log": 10}"#).expect("settings"));
        table.set("m", Some("a"), settings(r#"{"max_log": 20}"#).expect("settings"));
        assert_eq!(table.memory_max(&worker), 150 << 20);
        let mut tasks = [declare(LimitKind::Memory, 200 << 20), task("b")];
        table.apply("m", &worker, &mut tasks);
        let by_file = "max_memory is 200 MiB, and this worker allows 150 MiB: see max_memory in fastworker.toml";
        assert_eq!(tasks[0].warnings, [by_file]);
        warn_of_memory(&worker, 160 << 20, &mut tasks);
        let too_little = "max_memory is 150 MiB, and the module takes 160 MiB before it runs: every attempt fails";
        assert_eq!(tasks.each_ref().map(|task| task.warnings.last().map(String::as_str)), [Some(too_little); 2]);
        let [a, b] = tasks.map(|task| LimitKind::ALL.map(|kind| task.limits.get(kind)));
        let [log, memory] = [LimitKind::Log, LimitKind::Memory].map(|kind| kind.index().expect("a known kind"));
        assert_eq!((a[memory], a[log]), (Some(150 << 20), Some(20)));
        assert_eq!((b[memory], b[log]), (Some(150 << 20), Some(10)));
    }

    #[test]
    fn every_wrong_setting_is_reported_with_its_key() {
        let wrong = settings(r#"{"timeout": "soon", "needs": ["disk"], "timout": 1, "tz": "UTC", "every": 1}"#);
        let errors = wrong.expect_err("wrong settings");
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["needs", "timeout", "timout", "every"]);
        assert_eq!(errors[2].message, "unknown key 'timout': did you mean 'timeout'?");
    }

    #[test]
    fn a_task_whose_needs_are_not_granted_is_not_served() {
        let (granted, ungranted) =
            without_ungranted(vec![task("a"), TaskInfo { needs: vec![], ..task("b") }], &Grants::default());
        assert_eq!(granted.len(), 1);
        assert_eq!(ungranted, [UngrantedTask { name: "a".into(), missing: vec!["tcp:db:1".into()] }]);
    }
}
