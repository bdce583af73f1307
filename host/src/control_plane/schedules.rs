//! Schedules: recurring submissions of tasks.
//!
//! Pure: the same schedules and the same readings of both clocks give the same tasks. Intervals are measured on the
//! monotonic clock, from one anchor, so that they neither drift nor jump. Cron patterns follow the wall clock, which
//! may jump: it is checked at least once in [`CLOCK_CHECK_INTERVAL`]. Missed times are not made up for, except for
//! one that is at most [`SCHEDULE_GRACE`] late.
//!
//! Invariant: a schedule is in `moments` or `times` exactly while it is due at some time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{NewSchedule, Refusal, RefusalCode, ScheduleInfo, ScheduleSource},
    task::{
        InvalidScheduleName, TASK_NAME_MAX, TaskId, TaskName,
        schedule::{BadSchedule, Recurrence},
    },
};

mod due;
mod schedule;

pub use due::{DueAction, DueRun, Skip, Trigger};
use schedule::{Availability, Next, Schedule, size};

/// Maximum number of schedules.
pub const SCHEDULES_MAX: usize = 1_000;
/// Maximum size of the arguments of all schedules together, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum lateness of a cron time that still runs.
pub const SCHEDULE_GRACE: Duration = Duration::from_mins(1);
/// Interval at which the wall clock is checked while a cron pattern waits, as it may jump.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum time by which the wall clock is set back without repeating cron times.
pub const CLOCK_SET_BACK_MAX: Duration = Duration::from_hours(3);
/// Maximum time by which the wall clock is set back when it is only corrected.
const CORRECTION_MAX: Duration = Duration::from_secs(1);

/// Refusal of a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Its times are invalid.
    #[error(transparent)]
    Bad(#[from] BadSchedule),
    /// Its name is invalid.
    #[error(transparent)]
    Name(#[from] InvalidScheduleName),
    /// Its task name is invalid.
    #[error("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters")]
    TaskName,
    /// Its arguments have the wrong shape.
    #[error("positional arguments must be a JSON array, and named arguments a JSON object")]
    Arguments,
    /// There is another one of this name.
    #[error("there is a schedule '{0}' with other content already")]
    Exists(String),
    /// It belongs to a module.
    #[error("the schedule '{name}' comes from the module {module}")]
    OfModule {
        /// Its name.
        name: String,
        /// The module's.
        module: Arc<str>,
    },
    /// There are too many schedules.
    #[error("there are {SCHEDULES_MAX} schedules already: remove one first")]
    TooMany,
    /// The arguments are too large.
    #[error("the arguments of all schedules may hold {SCHEDULE_BYTES_MAX} bytes together")]
    TooLarge,
}

impl From<ScheduleError> for Refusal {
    fn from(error: ScheduleError) -> Self {
        let code = match error {
            ScheduleError::Bad(_) | ScheduleError::Name(_) | ScheduleError::TaskName | ScheduleError::Arguments => {
                RefusalCode::ScheduleInvalid
            }
            ScheduleError::Exists(_) => RefusalCode::ScheduleExists,
            ScheduleError::OfModule { .. } => RefusalCode::ScheduleOfModule,
            ScheduleError::TooMany | ScheduleError::TooLarge => RefusalCode::ScheduleLimit,
        };
        Self::new(code, error.to_string())
    }
}

/// All schedules.
#[derive(Debug, Default)]
pub struct Schedules {
    all: BTreeMap<Arc<str>, Schedule>,
    /// The schedules that are due at some time, by the monotonic clock and by the wall clock.
    moments: BTreeSet<(Moment, Arc<str>)>,
    times: BTreeSet<(Timestamp, Arc<str>)>,
    /// The schedules whose module was removed, by when they are removed if it does not return.
    leaving: BTreeSet<(Moment, Arc<str>)>,
    /// The unfinished tasks of schedules, with the name of the schedule.
    live: HashMap<TaskId, Arc<str>>,
    /// Size of the arguments.
    bytes: usize,
    /// The wall clock when it was last checked.
    wall: Timestamp,
}

impl Schedules {
    /// Number of schedules.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are no schedules.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a task of a schedule is unfinished. If so, call [`Schedules::ended`] when a task ends.
    pub fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// Returns when something is due, or the wall clock must be checked.
    pub fn wake(&self, now: Now) -> Moment {
        let by_wall = self.times.first().map(|(at, _)| now.mono + at.since(now.wall).min(CLOCK_CHECK_INTERVAL));
        let by_interval = self.moments.first().map(|(at, _)| *at);
        let by_grace = self.leaving.first().map(|(at, _)| *at);
        [by_wall, by_interval, by_grace].into_iter().flatten().min().unwrap_or(Moment::NEVER)
    }

    /// Adds a schedule of a client.
    ///
    /// # Errors
    /// [`ScheduleError`] if it is refused. Nothing has changed then.
    pub fn add(&mut self, now: Now, new: NewSchedule, replace: bool) -> Result<Arc<str>, ScheduleError> {
        let recurrence = Recurrence::of(&new.spec)?;
        TaskName::check(&new.name).map_err(InvalidScheduleName::from)?;
        if TaskName::check(&new.task_name).is_err() {
            return Err(ScheduleError::TaskName);
        }
        if !new.args.as_str().starts_with('[') || !new.kwargs.as_str().starts_with('{') {
            return Err(ScheduleError::Arguments);
        }
        let mut freed = 0;
        if let Some((name, schedule)) = self.all.get_key_value(&*new.name) {
            if *schedule.definition == new && schedule.source == ScheduleSource::Command {
                return Ok(name.clone());
            }
            match &schedule.source {
                ScheduleSource::Module(module) if schedule.availability != Availability::Unavailable => {
                    return Err(ScheduleError::OfModule { name: new.name, module: module.clone() });
                }
                ScheduleSource::Command if !replace => return Err(ScheduleError::Exists(new.name)),
                ScheduleSource::Module(_) | ScheduleSource::Command => freed = size(&schedule.definition),
            }
        }
        if self.bytes + size(&new) > SCHEDULE_BYTES_MAX + freed {
            return Err(ScheduleError::TooLarge);
        }
        self.insert(now, new, ScheduleSource::Command, recurrence)
    }

    /// Adds or updates the schedule of a module. It lasts as long as a worker has the module.
    ///
    /// # Errors
    /// [`ScheduleError`] if it is refused.
    pub fn set_from_module(&mut self, now: Now, new: NewSchedule, module: &str) -> Result<(), ScheduleError> {
        if let Some((name, schedule)) = self.all.get_key_value(&*new.name) {
            let ScheduleSource::Module(_) = schedule.source else { return Err(ScheduleError::Exists(new.name)) };
            if *schedule.definition == new {
                let name = name.clone();
                self.set_availability(now, &name, Availability::Available);
                return Ok(());
            }
        }
        let recurrence = Recurrence::of(&new.spec)?;
        let paused = self.all.get(&*new.name).is_some_and(|schedule| schedule.paused);
        let name = self.insert(now, new, ScheduleSource::Module(module.into()), recurrence)?;
        if paused {
            self.pause(&name);
        }
        Ok(())
    }

    /// Records that no worker has the module of this schedule any more. It may return within `grace`.
    pub fn module_removed(&mut self, now: Now, name: &str, grace: Duration) {
        let Some((name, schedule)) = self.all.get_key_value(name) else { return };
        if matches!(schedule.source, ScheduleSource::Module(_)) && schedule.availability == Availability::Available {
            let name = name.clone();
            if grace.is_zero() {
                self.retire(now, &name);
            } else {
                self.set_availability(now, &name, Availability::Leaving(now.mono + grace));
            }
        }
    }

    /// Removes or suspends a schedule whose module is not expected to return.
    fn retire(&mut self, now: Now, name: &Arc<str>) {
        // Keep whether it was paused, and how often it ran, in case it returns anyway.
        if self.all.get(name).is_some_and(|schedule| schedule.paused || schedule.definition.spec.count.is_some()) {
            self.set_availability(now, name, Availability::Unavailable);
        } else {
            self.delete(name);
        }
    }

    /// Removes the schedule of a module's task, which does not define one any more. Returns whether there was one.
    pub fn remove_from_module(&mut self, name: &str) -> bool {
        let is_of_module = |schedule: &Schedule| matches!(schedule.source, ScheduleSource::Module(_));
        self.all.get(name).is_some_and(is_of_module) && self.delete(name).is_some()
    }

    fn insert(
        &mut self,
        now: Now,
        new: NewSchedule,
        source: ScheduleSource,
        recurrence: Recurrence,
    ) -> Result<Arc<str>, ScheduleError> {
        let is_new = !self.all.contains_key(&*new.name);
        if is_new && self.all.len() >= SCHEDULES_MAX {
            // Evict one that is never due again.
            let is_over = |schedule: &Schedule| schedule.next == Next::Never && !schedule.paused;
            let over = self.all.iter().find(|(_, schedule)| is_over(schedule)).map(|(name, _)| name.clone());
            self.delete(&over.ok_or(ScheduleError::TooMany)?);
        }
        self.delete(&new.name);
        let name: Arc<str> = new.name.as_str().into();
        self.bytes += size(&new);
        let schedule = Schedule {
            definition: Arc::new(new),
            source,
            recurrence,
            next: Next::Never,
            next_wall: now.wall,
            anchor: now.mono,
            paused: false,
            availability: Availability::Available,
            last_considered: None,
            queued_run: None,
            live: 0,
            runs: 0,
            skipped: 0,
            last: None,
        };
        self.all.insert(name.clone(), schedule);
        if self.times.is_empty() {
            self.wall = now.wall;
        }
        self.reschedule(now, &name);
        Ok(name)
    }

    fn delete(&mut self, name: &str) -> Option<Schedule> {
        let (name, schedule) = self.all.remove_entry(name)?;
        self.bytes -= size(&schedule.definition);
        self.unset(&name, schedule.next);
        if let Availability::Leaving(at) = schedule.availability {
            self.leaving.remove(&(at, name.clone()));
        }
        if schedule.live > 0 {
            self.live.retain(|_, owner| *owner != name);
        }
        Some(schedule)
    }

    fn set_availability(&mut self, now: Now, name: &Arc<str>, availability: Availability) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        if let Availability::Leaving(at) = schedule.availability {
            self.leaving.remove(&(at, name.clone()));
        }
        schedule.availability = availability;
        match availability {
            Availability::Leaving(at) => drop(self.leaving.insert((at, name.clone()))),
            Availability::Unavailable => schedule.queued_run = None,
            Availability::Available => {}
        }
        self.reschedule(now, name);
    }

    /// Pauses a schedule. Returns false if there is no such schedule.
    pub fn pause(&mut self, name: &str) -> bool {
        let Some((name, schedule)) = self.all.get_key_value(name) else { return false };
        let (name, next) = (name.clone(), schedule.next);
        self.unset(&name, next);
        if let Some(schedule) = self.all.get_mut(&name) {
            (schedule.paused, schedule.next, schedule.queued_run) = (true, Next::Never, None);
        }
        true
    }

    /// Resumes a schedule. Returns false if there is no such schedule.
    pub fn resume(&mut self, now: Now, name: &str) -> bool {
        let Some((name, _)) = self.all.get_key_value(name) else { return false };
        let name = name.clone();
        if let Some(schedule) = self.all.get_mut(&name) {
            schedule.paused = false;
        }
        self.reschedule(now, &name);
        true
    }

    /// Removes a schedule of a client, or of a module that was removed. Returns none if there is no such schedule.
    ///
    /// # Errors
    /// [`ScheduleError::OfModule`] if it belongs to a module.
    pub fn remove(&mut self, now: Now, name: &str) -> Result<Option<ScheduleInfo>, ScheduleError> {
        let Some(schedule) = self.all.get(name) else { return Ok(None) };
        if let ScheduleSource::Module(module) = &schedule.source
            && schedule.availability != Availability::Unavailable
        {
            return Err(ScheduleError::OfModule { name: name.to_owned(), module: module.clone() });
        }
        let info = schedule.info(now);
        self.delete(name);
        Ok(Some(info))
    }

    /// Returns the task that a schedule submits, with this id. None if there is no such schedule.
    pub fn task(&self, name: &str, id: TaskId) -> Option<DueRun> {
        let (name, schedule) = self.all.get_key_value(name)?;
        Some(DueRun { name: name.clone(), task: schedule.task(id) })
    }

    /// Whether there is a schedule of this name.
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Describes a schedule.
    pub fn info(&self, now: Now, name: &str) -> Option<ScheduleInfo> {
        self.all.get(name).map(|schedule| schedule.info(now))
    }

    /// Describes all schedules, by name.
    pub fn infos(&self, now: Now) -> Vec<ScheduleInfo> {
        self.all.values().map(|schedule| schedule.info(now)).collect()
    }
}

#[cfg(test)]
mod tests;
