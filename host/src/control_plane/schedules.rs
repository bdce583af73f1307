//! The book of schedules: what submits tasks by itself, and when.
//!
//! Pure: the same book and the same readings of both clocks give the same tasks. Intervals are
//! measured on the monotonic clock, from one anchor, so that they neither drift nor jump. Cron
//! patterns look at the wall clock, which may: whoever keeps the book looks at least once in
//! [`CLOCK_LOOK`]. Times that were missed are not made up for, but for one that is at most
//! [`SCHEDULE_GRACE`] late.
//!
//! Invariant: a schedule is in `moments` or `times` exactly while it is due some time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{NewSchedule, Refusal, RefusalCode, ScheduleInfo, ScheduleSource, ScheduleStatus},
    task::{
        NewTask, TASK_NAME_MAX, TaskId, TaskStatus, is_task_name,
        schedule::{BadSchedule, Overlap, Rhythm},
    },
};

/// How many schedules there may be.
pub const SCHEDULES_MAX: usize = 1_000;
/// Bytes of arguments that all schedules together may hold.
pub const SCHEDULE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A cron time that was missed by no more than this is made up for.
pub const SCHEDULE_GRACE: Duration = Duration::from_mins(1);
/// The wall clock is looked at so often, as it may jump, while a cron pattern waits for it.
pub const CLOCK_LOOK: Duration = Duration::from_mins(1);
/// A wall clock that is set back by no more than this does not repeat cron times.
pub const SET_BACK_MAX: Duration = Duration::from_hours(3);
/// A wall clock that goes back by less than this was only corrected.
const CORRECTION_MAX: Duration = Duration::from_secs(1);

/// One schedule.
#[derive(Debug)]
struct Schedule {
    new: Arc<NewSchedule>,
    source: ScheduleSource,
    rhythm: Rhythm,
    next: Next,
    /// What the wall clock is to show at `next`, as it was when that was reckoned.
    next_at: Timestamp,
    /// Where intervals are measured from.
    anchor: Moment,
    paused: bool,
    presence: Presence,
    /// The last cron time that was dealt with.
    done: Option<Timestamp>,
    /// A time that waits for the last task's end.
    waiting: Option<Timestamp>,
    /// Its tasks that have not ended.
    live: usize,
    runs: u64,
    skipped: u64,
    last: Option<Last>,
}

/// When a schedule is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Never,
    At(Moment),
    On(Timestamp),
}

/// Whether there is a worker for the schedule of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    /// The last one went; at this moment the schedule goes, too.
    Leaving(Moment),
    Gone,
}

/// The last task of a schedule.
#[derive(Debug)]
struct Last {
    at: Timestamp,
    task: TaskId,
    /// What it ended in.
    end: Option<TaskStatus>,
}

/// A schedule is due.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// A task is to be submitted; what became of it is told by [`Schedules::submitted`].
    Fire(Box<Fire>),
    /// A time was left out.
    Skip(Arc<str>, Skip),
}

/// A task of a schedule that is due.
#[derive(Debug, PartialEq)]
pub struct Fire {
    /// The schedule.
    pub name: Arc<str>,
    /// The task.
    pub task: NewTask,
}

/// Why a time was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The last task has not ended.
    Busy,
    /// Another time waits for the last task's end already.
    Full,
    /// Nobody was awake, since this time.
    Missed(Timestamp),
}

/// Why a schedule is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// There can be none such.
    #[error(transparent)]
    Bad(#[from] BadSchedule),
    /// Its name cannot be one.
    #[error("a schedule's name is text of 1 to {TASK_NAME_MAX} bytes without control characters")]
    Name,
    /// Its task cannot be one.
    #[error("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters")]
    TaskName,
    /// Its arguments have the wrong shape.
    #[error("positional arguments are a JSON array, and named arguments a JSON object")]
    Arguments,
    /// There is another one.
    #[error("there is a schedule '{0}' with other content already")]
    Taken(String),
    /// A module has it.
    #[error("the schedule '{name}' comes from the module {module}")]
    OfModule {
        /// Its name.
        name: String,
        /// The module's.
        module: Arc<str>,
    },
    /// The book is full.
    #[error("there are {SCHEDULES_MAX} schedules already: remove one first")]
    TooMany,
    /// The arguments are too large.
    #[error("the arguments of all schedules may hold {SCHEDULE_BYTES_MAX} bytes together")]
    TooLarge,
}

impl From<NotKept> for Refusal {
    fn from(error: NotKept) -> Self {
        let code = match error {
            NotKept::Bad(_) | NotKept::Name | NotKept::TaskName | NotKept::Arguments => RefusalCode::ScheduleInvalid,
            NotKept::Taken(_) => RefusalCode::ScheduleExists,
            NotKept::OfModule { .. } => RefusalCode::ScheduleOfModule,
            NotKept::TooMany | NotKept::TooLarge => RefusalCode::ScheduleLimit,
        };
        Self::new(code, error.to_string())
    }
}

/// All schedules.
#[derive(Debug, Default)]
pub struct Schedules {
    all: BTreeMap<Arc<str>, Schedule>,
    /// Which are due when, on either clock.
    moments: BTreeSet<(Moment, Arc<str>)>,
    times: BTreeSet<(Timestamp, Arc<str>)>,
    /// Which go when, if nobody brings their module back.
    leaving: BTreeSet<(Moment, Arc<str>)>,
    /// Whose each task is that has not ended.
    live: HashMap<TaskId, Arc<str>>,
    bytes: usize,
    /// What the wall clock showed at the last look.
    wall: Timestamp,
}

impl Schedules {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether tasks of schedules have not ended: whoever ends a task tells of it then.
    pub fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// When somebody must look again.
    pub fn wake(&self, now: Now) -> Moment {
        let by_wall = self.times.first().map(|(at, _)| now.mono + at.since(now.wall).min(CLOCK_LOOK));
        let by_span = self.moments.first().map(|(at, _)| *at);
        let by_grace = self.leaving.first().map(|(at, _)| *at);
        [by_wall, by_span, by_grace].into_iter().flatten().min().unwrap_or(Moment::NEVER)
    }

    // Coming and going.

    /// Keeps a schedule of somebody.
    ///
    /// # Errors
    /// [`NotKept`] says why not. What was kept before is as it was.
    pub fn add(&mut self, now: Now, new: NewSchedule, replace: bool) -> Result<Arc<str>, NotKept> {
        let rhythm = Rhythm::of(&new.spec)?;
        if !is_task_name(&new.name) {
            return Err(NotKept::Name);
        }
        if !is_task_name(&new.task_name) {
            return Err(NotKept::TaskName);
        }
        if !new.args.as_str().starts_with('[') || !new.kwargs.as_str().starts_with('{') {
            return Err(NotKept::Arguments);
        }
        let mut freed = 0;
        if let Some((name, schedule)) = self.all.get_key_value(&*new.name) {
            if *schedule.new == new && schedule.source == ScheduleSource::Command {
                return Ok(name.clone());
            }
            match &schedule.source {
                ScheduleSource::Module(module) if schedule.presence != Presence::Gone => {
                    return Err(NotKept::OfModule { name: new.name, module: module.clone() });
                }
                ScheduleSource::Command if !replace => return Err(NotKept::Taken(new.name)),
                ScheduleSource::Module(_) | ScheduleSource::Command => freed = size(&schedule.new),
            }
        }
        if self.bytes + size(&new) > SCHEDULE_BYTES_MAX + freed {
            return Err(NotKept::TooLarge);
        }
        self.keep(now, new, ScheduleSource::Command, rhythm)
    }

    /// Keeps a schedule that a module has, as long as a worker has the module.
    ///
    /// # Errors
    /// [`NotKept`] says why not.
    pub fn offer(&mut self, now: Now, new: NewSchedule, module: &str) -> Result<(), NotKept> {
        if let Some((name, schedule)) = self.all.get_key_value(&*new.name) {
            let ScheduleSource::Module(_) = schedule.source else { return Err(NotKept::Taken(new.name)) };
            if *schedule.new == new {
                let name = name.clone();
                self.set_presence(now, &name, Presence::Here);
                return Ok(());
            }
        }
        let rhythm = Rhythm::of(&new.spec)?;
        let paused = self.all.get(&*new.name).is_some_and(|schedule| schedule.paused);
        let name = self.keep(now, new, ScheduleSource::Module(module.into()), rhythm)?;
        if paused {
            self.pause(&name);
        }
        Ok(())
    }

    /// Nobody has the module of this schedule any more. It may come back within `grace`.
    pub fn withdraw(&mut self, now: Now, name: &str, grace: Duration) {
        let Some((name, schedule)) = self.all.get_key_value(name) else { return };
        if matches!(schedule.source, ScheduleSource::Module(_)) && schedule.presence == Presence::Here {
            let name = name.clone();
            if grace.is_zero() {
                self.retire(now, &name);
            } else {
                self.set_presence(now, &name, Presence::Leaving(now.mono + grace));
            }
        }
    }

    /// The module of this schedule is not expected to come back.
    fn retire(&mut self, now: Now, name: &Arc<str>) {
        // Paused stays paused, and counted stays counted, when it is back all the same.
        if self.all.get(name).is_some_and(|schedule| schedule.paused || schedule.new.spec.count.is_some()) {
            self.set_presence(now, name, Presence::Gone);
        } else {
            self.forget(name);
        }
    }

    /// The task of this name has no schedule of its own any more. Tells whether it had one.
    pub fn revoke(&mut self, name: &str) -> bool {
        let is_of_module = |schedule: &Schedule| matches!(schedule.source, ScheduleSource::Module(_));
        self.all.get(name).is_some_and(is_of_module) && self.forget(name).is_some()
    }

    fn keep(
        &mut self,
        now: Now,
        new: NewSchedule,
        source: ScheduleSource,
        rhythm: Rhythm,
    ) -> Result<Arc<str>, NotKept> {
        let is_new = !self.all.contains_key(&*new.name);
        if is_new && self.all.len() >= SCHEDULES_MAX {
            // What will never be due again makes room.
            let is_over = |schedule: &Schedule| schedule.next == Next::Never && !schedule.paused;
            let over = self.all.iter().find(|(_, schedule)| is_over(schedule)).map(|(name, _)| name.clone());
            self.forget(&over.ok_or(NotKept::TooMany)?);
        }
        self.forget(&new.name);
        let name: Arc<str> = new.name.as_str().into();
        self.bytes += size(&new);
        let schedule = Schedule {
            new: Arc::new(new),
            source,
            rhythm,
            next: Next::Never,
            next_at: now.wall,
            anchor: now.mono,
            paused: false,
            presence: Presence::Here,
            done: None,
            waiting: None,
            live: 0,
            runs: 0,
            skipped: 0,
            last: None,
        };
        self.all.insert(name.clone(), schedule);
        if self.times.is_empty() {
            self.wall = now.wall;
        }
        self.reckon(now, &name);
        Ok(name)
    }

    fn forget(&mut self, name: &str) -> Option<Schedule> {
        let (name, schedule) = self.all.remove_entry(name)?;
        self.bytes -= size(&schedule.new);
        self.unset(&name, schedule.next);
        if let Presence::Leaving(at) = schedule.presence {
            self.leaving.remove(&(at, name.clone()));
        }
        if schedule.live > 0 {
            self.live.retain(|_, owner| *owner != name);
        }
        Some(schedule)
    }

    fn set_presence(&mut self, now: Now, name: &Arc<str>, presence: Presence) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        if let Presence::Leaving(at) = schedule.presence {
            self.leaving.remove(&(at, name.clone()));
        }
        schedule.presence = presence;
        match presence {
            Presence::Leaving(at) => drop(self.leaving.insert((at, name.clone()))),
            Presence::Gone => schedule.waiting = None,
            Presence::Here => {}
        }
        self.reckon(now, name);
    }

    // What people do.

    /// Submits nothing by it until it is resumed. False if there is no such schedule.
    pub fn pause(&mut self, name: &str) -> bool {
        let Some((name, schedule)) = self.all.get_key_value(name) else { return false };
        let (name, next) = (name.clone(), schedule.next);
        self.unset(&name, next);
        if let Some(schedule) = self.all.get_mut(&name) {
            (schedule.paused, schedule.next, schedule.waiting) = (true, Next::Never, None);
        }
        true
    }

    /// Goes on with it. False if there is no such schedule.
    pub fn resume(&mut self, now: Now, name: &str) -> bool {
        let Some((name, _)) = self.all.get_key_value(name) else { return false };
        let name = name.clone();
        if let Some(schedule) = self.all.get_mut(&name) {
            schedule.paused = false;
        }
        self.reckon(now, &name);
        true
    }

    /// Forgets a schedule of somebody, or of a module that is gone. None if there is no such
    /// schedule.
    ///
    /// # Errors
    /// [`NotKept::OfModule`] if a module has it.
    pub fn remove(&mut self, now: Now, name: &str) -> Result<Option<ScheduleInfo>, NotKept> {
        let Some(schedule) = self.all.get(name) else { return Ok(None) };
        if let ScheduleSource::Module(module) = &schedule.source
            && schedule.presence != Presence::Gone
        {
            return Err(NotKept::OfModule { name: name.to_owned(), module: module.clone() });
        }
        let info = schedule.info(now);
        self.forget(name);
        Ok(Some(info))
    }

    /// The task that a schedule submits, under this id. None if there is no such schedule.
    pub fn task(&self, name: &str, id: TaskId) -> Option<Fire> {
        let (name, schedule) = self.all.get_key_value(name)?;
        Some(Fire { name: name.clone(), task: schedule.task(id) })
    }

    /// Whether there is a schedule of this name.
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// How a schedule stands.
    pub fn info(&self, now: Now, name: &str) -> Option<ScheduleInfo> {
        self.all.get(name).map(|schedule| schedule.info(now))
    }

    /// How all of them stand, by name.
    pub fn infos(&self, now: Now) -> Vec<ScheduleInfo> {
        self.all.values().map(|schedule| schedule.info(now)).collect()
    }

    // What time does.

    /// Looks at both clocks before [`Schedules::turn`] is called until it has nothing left.
    pub fn look(&mut self, now: Now) {
        while let Some((_, name)) = self.leaving.first().filter(|(at, _)| *at <= now.mono).cloned() {
            self.retire(now, &name);
        }
        if self.wall.since(now.wall) >= CORRECTION_MAX {
            // What was dealt with is not repeated, unless the clock was set to another day.
            let was_another_day = |done: &Timestamp| *done > now.wall + SET_BACK_MAX;
            for schedule in self.all.values_mut() {
                schedule.done = schedule.done.filter(|done| !was_another_day(done));
            }
            let waiting: Vec<Arc<str>> = self.times.iter().map(|(_, name)| name.clone()).collect();
            for name in &waiting {
                self.reckon(now, name);
            }
        }
        self.wall = now.wall;
    }

    /// The next that is due, and what to do.
    pub fn turn(&mut self, now: Now) -> Option<Turn> {
        loop {
            let by_span = self.moments.first().filter(|(at, _)| *at <= now.mono).map(|(_, name)| name);
            let by_wall = || self.times.first().filter(|(at, _)| *at <= now.wall).map(|(_, name)| name);
            let name = by_span.or_else(by_wall)?.clone();
            let schedule = self.all.get_mut(&name)?;
            let (next, occurrence) = (schedule.next, schedule.occurrence(now));
            if let Rhythm::Cron(_) = schedule.rhythm {
                schedule.done = Some(now.wall);
            }
            self.reckon(now, &name);
            let schedule = self.all.get_mut(&name)?;
            match (occurrence, next) {
                (Some(at), _) if schedule.new.spec.until.is_some_and(|until| at > until) => {}
                (Some(at), _) => match schedule.decide() {
                    Decision::Fire => {
                        let id = schedule.id(&name, at);
                        return Some(Turn::Fire(Box::new(Fire { task: schedule.task(id), name })));
                    }
                    Decision::Wait => schedule.waiting = Some(at),
                    Decision::Skip(why) => {
                        schedule.skipped += 1;
                        return Some(Turn::Skip(name, why));
                    }
                },
                (None, Next::On(at)) => {
                    schedule.skipped += 1;
                    return Some(Turn::Skip(name, Skip::Missed(at)));
                }
                (None, Next::At(_) | Next::Never) => {}
            }
        }
    }

    /// The task of a schedule was submitted, at one of its times or because somebody wanted it.
    /// `end` is what it ended in already, if it has.
    pub fn submitted(&mut self, now: Now, name: &Arc<str>, task: &TaskId, by: By, end: Option<TaskStatus>) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        schedule.runs += u64::from(by == By::Time);
        schedule.last = Some(Last { at: now.wall, task: task.clone(), end });
        if end.is_none() && self.live.insert(task.clone(), name.clone()).is_none() {
            schedule.live += 1;
        }
        if by == By::Time && schedule.new.spec.count.is_some() {
            self.reckon(now, name);
        }
    }

    /// The task of a schedule was not taken.
    pub fn refused(&mut self, name: &str) {
        if let Some(schedule) = self.all.get_mut(name) {
            schedule.skipped += 1;
        }
    }

    /// A task has ended. Gives the next one of its schedule, if one waits for that.
    pub fn ended(&mut self, task: &TaskId, end: TaskStatus) -> Option<Fire> {
        let name = self.live.remove(task)?;
        let schedule = self.all.get_mut(&name)?;
        schedule.live -= 1;
        if let Some(last) = schedule.last.as_mut().filter(|last| last.task == *task) {
            last.end = Some(end);
        }
        if schedule.live > 0 {
            return None;
        }
        let at = schedule.waiting.take().filter(|_| !schedule.is_used_up())?;
        Some(Fire { task: schedule.task(schedule.id(&name, at)), name })
    }

    /// Sets anew when it is due next.
    fn reckon(&mut self, now: Now, name: &Arc<str>) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        let (before, next) = (schedule.next, schedule.next_after(now));
        schedule.next = next;
        if before == next {
            return;
        }
        if let Next::At(at) = next {
            schedule.next_at = now.wall + at.since(now.mono);
        }
        self.unset(name, before);
        match next {
            Next::At(at) => drop(self.moments.insert((at, name.clone()))),
            Next::On(at) => drop(self.times.insert((at, name.clone()))),
            Next::Never => {}
        }
    }

    fn unset(&mut self, name: &Arc<str>, next: Next) {
        match next {
            Next::At(at) => drop(self.moments.remove(&(at, name.clone()))),
            Next::On(at) => drop(self.times.remove(&(at, name.clone()))),
            Next::Never => {}
        }
    }
}

/// Why a task of a schedule was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It was due.
    Time,
    /// Somebody wanted it.
    Hand,
}

enum Decision {
    Fire,
    Wait,
    Skip(Skip),
}

impl Schedule {
    fn next_after(&self, now: Now) -> Next {
        if self.paused || self.presence == Presence::Gone || self.is_used_up() {
            return Next::Never;
        }
        let is_over = |at: Timestamp| self.new.spec.until.is_some_and(|until| at > until);
        match &self.rhythm {
            Rhythm::Every(span) => {
                let passed = now.mono.since(self.anchor).as_micros() / span.as_micros();
                let ahead = u64::try_from((passed + 1) * span.as_micros()).unwrap_or(u64::MAX);
                let at = self.anchor + Duration::from_micros(ahead);
                if is_over(now.wall + at.since(now.mono)) { Next::Never } else { Next::At(at) }
            }
            Rhythm::Cron(clockwork) => {
                let next = clockwork.after(self.done.map_or(now.wall, |done| done.max(now.wall)));
                next.filter(|at| !is_over(*at)).map_or(Next::Never, Next::On)
            }
        }
    }

    /// The time for which it is due now. None if that is too long ago.
    fn occurrence(&self, now: Now) -> Option<Timestamp> {
        match (self.next, &self.rhythm) {
            (Next::At(at), _) => Some(before(now.wall, now.mono.since(at))),
            (Next::On(at), _) if now.wall.since(at) <= SCHEDULE_GRACE => Some(at),
            (Next::On(_), Rhythm::Cron(clockwork)) => {
                clockwork.after(before(now.wall, SCHEDULE_GRACE)).filter(|at| *at <= now.wall)
            }
            (Next::On(_), Rhythm::Every(_)) | (Next::Never, _) => None,
        }
    }

    fn decide(&self) -> Decision {
        match self.new.spec.overlap {
            _ if self.live == 0 => Decision::Fire,
            Overlap::Skip => Decision::Skip(Skip::Busy),
            Overlap::Queue if self.waiting.is_none() => Decision::Wait,
            Overlap::Queue => Decision::Skip(Skip::Full),
        }
    }

    fn is_used_up(&self) -> bool {
        self.new.spec.count.is_some_and(|count| self.runs >= count)
    }

    /// The same for the same time, however often it is reckoned.
    fn id(&self, name: &str, at: Timestamp) -> TaskId {
        let schedule = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        // The number keeps two apart when the clock was set back.
        Uuid::new_v5(&schedule, format!("{} {}", at.micros(), self.runs).as_bytes()).into()
    }

    fn task(&self, id: TaskId) -> NewTask {
        let NewSchedule { task_name, args, kwargs, policy, unknown, .. } = &*self.new;
        NewTask {
            id,
            args: args.clone(),
            kwargs: kwargs.clone(),
            policy: policy.clone(),
            unknown: *unknown,
            ..NewTask::new(task_name)
        }
    }

    /// When it is due, which is `at` by the clocks as they are: the same moment whenever it is asked,
    /// unless the wall clock was set.
    fn next_at(&self, at: Timestamp) -> Timestamp {
        let off = at.since(self.next_at).max(self.next_at.since(at));
        if off < CORRECTION_MAX { self.next_at } else { at }
    }

    fn info(&self, now: Now) -> ScheduleInfo {
        let status = match (self.presence, self.paused, self.next) {
            (Presence::Gone, ..) => ScheduleStatus::Absent,
            (_, true, _) => ScheduleStatus::Paused,
            (_, false, Next::Never) => ScheduleStatus::Finished,
            (_, false, _) => ScheduleStatus::Active,
        };
        ScheduleInfo {
            schedule: self.new.clone(),
            source: self.source.clone(),
            status,
            next_run: match self.next {
                Next::Never => None,
                Next::At(at) => Some(self.next_at(now.wall + at.since(now.mono))),
                Next::On(at) => Some(at),
            },
            last_run: self.last.as_ref().map(|last| last.at),
            last_task_id: self.last.as_ref().map(|last| last.task.clone()),
            last_status: self.last.as_ref().and_then(|last| last.end),
            runs: self.runs,
            skipped: self.skipped,
            remaining: self.new.spec.count.map(|count| count.saturating_sub(self.runs)),
        }
    }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_sub(micros))
}

/// Bytes that count against [`SCHEDULE_BYTES_MAX`].
fn size(new: &NewSchedule) -> usize {
    new.args.as_str().len() + new.kwargs.as_str().len()
}

#[cfg(test)]
mod tests;
