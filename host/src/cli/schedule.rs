//! `fastworker schedule`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{
    Connection, Failure, Outcome, TASK_FAILED, WRONG_USAGE,
    call::TaskCall,
    complete, named, number,
    render::{self, Done},
    span,
    submit::known,
    switch,
    values::schedule_name,
};
use crate::{
    client::{Client, ClientError, OnConflict},
    clock::{TimeText, Timestamp},
    protocol::{Found, NewSchedule, ScheduleInfo, ScheduleSource, ScheduleStatus},
    signature::Signature,
    task::{
        ScheduleSpec, TaskStatus, Unknown,
        schedule::{BadSchedule, Overlap, Rhythm, TZ_DEFAULT, When},
    },
};

#[derive(Args, Debug)]
pub(super) struct Schedule {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a schedule, which lasts as long as the control plane runs
    Add(Box<Add>),
    /// List the schedules, including those of task modules
    List(List),
    /// Pause a schedule
    Pause(Named),
    /// Resume a paused schedule
    Resume(Named),
    /// Submit a schedule's task now, in addition to its times
    Trigger(Named),
    /// Remove a schedule. Tasks that it has submitted go on
    Remove(Named),
}

#[derive(Args, Debug)]
#[command(after_help = ADD_HELP, group = ArgGroup::new("when").required(true).args(["every", "cron"]))]
struct Add {
    /// The schedule's name
    #[arg(value_name = "NAME", value_parser = schedule_name)]
    name: String,
    /// Submit at this interval, 100ms or longer
    #[arg(long, env = "FASTWORKER_EVERY", value_name = "SPAN", value_parser = span)]
    every: Option<Duration>,
    /// Submit at the times of this cron pattern: minute, hour, day of month, month, day of week
    #[arg(long, env = "FASTWORKER_CRON", value_name = "PATTERN")]
    cron: Option<String>,
    /// Read the pattern in this time zone, such as Europe/Paris [default: UTC]
    #[arg(long, env = "FASTWORKER_TZ", value_name = "ZONE", conflicts_with = "every")]
    tz: Option<String>,
    /// Submit at most this many tasks
    #[arg(long, env = "FASTWORKER_SCHEDULE_COUNT", value_name = "COUNT", value_parser = number::<u64, 1, { u64::MAX }>)]
    count: Option<u64>,
    /// Submit none after this time, such as 2026-12-31T18:00:00Z. Without an offset it is in the time zone of --tz
    #[arg(long, env = "FASTWORKER_UNTIL", value_name = "TIME", value_parser = named::<TimeText>)]
    until: Option<TimeText>,
    /// While the last task has not ended, skip a submission or queue one
    #[arg(long, env = "FASTWORKER_OVERLAP", value_name = "WHAT", default_value = "skip", value_parser = named::<Overlap>,
          add = ArgValueCandidates::new(complete::overlaps))]
    overlap: Overlap,
    /// Replace a schedule of the same name
    #[arg(long, env = "FASTWORKER_REPLACE", value_parser = switch)]
    replace: bool,
    #[command(flatten)]
    call: TaskCall,
    #[command(flatten)]
    connection: Connection,
}

const ADD_HELP: &str = "\
A cron pattern takes numbers, names (MON-SUN, JAN-DEC), lists (1,15), ranges (MON-FRI) and steps (*/10). \
Sunday is 0 or 7. L is the last day of the month, FRI#2 the second Friday, FRI#L the last one. A sixth field in \
front is for seconds. @hourly, @daily (or @midnight), @weekly, @monthly and @yearly (or @annually) are patterns, too.

Examples:

  fastworker schedule add cleanup --task-name cleanup --every 10m
  fastworker schedule add report --task-name report --cron '0 9 * * MON-FRI'";

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args, Debug)]
struct Named {
    /// The schedule's name
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::schedules))]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

impl Schedule {
    pub(super) fn run(self) -> Outcome {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::List(List { connection }) => {
                connection.run(async |client| render::schedules(&client.schedules().list().await?, connection.json))
            }
            Verb::Pause(named) => named.run(async |client, name, json| match client.schedules().pause(name).await? {
                Some(paused) => render::schedule(Done::Paused, &paused, json),
                None => Err(unknown(client, name).await),
            }),
            Verb::Resume(named) => {
                named.run(async |client, name, json| match client.schedules().resume(name).await? {
                    Some(over) if over.status == ScheduleStatus::Finished => Err(finished(&over)),
                    Some(resumed) => render::schedule(Done::Resumed, &resumed, json),
                    None => Err(unknown(client, name).await),
                })
            }
            Verb::Trigger(named) => named.run(trigger),
            Verb::Remove(named) => named.run(async |client, name, json| match client.schedules().remove(name).await {
                Ok(Some(removed)) => render::schedule(Done::Removed, &removed, json),
                Ok(None) => Err(unknown(client, name).await),
                Err(error) => {
                    let hint = format!("pause it with: fastworker schedule pause {name}");
                    Err(kept(error, Some(hint)))
                }
            }),
        }
    }
}

impl Named {
    fn run(self, work: impl AsyncFnOnce(&Client, &str, bool) -> Outcome) -> Outcome {
        let Self { name, connection } = &self;
        connection.run(async |client| work(client, name, connection.json).await)
    }
}

impl Add {
    fn run(self) -> Outcome {
        let schedule = self.schedule().map_err(wrong)?;
        // Said here, with what to do about it, rather than by the control plane.
        Rhythm::of(&schedule.spec).map_err(wrong)?;
        if let Some(until) = schedule.spec.until.filter(|until| *until <= Timestamp::now()) {
            return Err(Failure::new(WRONG_USAGE, format!("--until {until} is in the past"))
                .hint("give a time in the future, or leave --until out"));
        }
        let on_conflict = if self.replace { OnConflict::Replace } else { OnConflict::Keep };
        self.connection.run(async |client| {
            let doubt = doubt(client, &schedule).await?;
            let known = client.schedules().list().await?;
            let before = known.into_iter().find(|known| known.schedule.name == schedule.name);
            let added = client
                .schedules()
                .add(schedule, on_conflict)
                .await
                .map_err(|error| refused(error, &self.name, before.as_ref(), on_conflict))?;
            if let Some(doubt) = doubt {
                render::note(&doubt);
            }
            let done = match before {
                Some(before) if before.schedule == added.schedule => Done::Unchanged,
                Some(_) => Done::Replaced,
                None => Done::Added,
            };
            render::schedule(done, &added, self.connection.json)
        })
    }

    fn schedule(&self) -> Result<NewSchedule, BadSchedule> {
        let when = match (&self.cron, self.every) {
            (Some(pattern), _) => {
                When::Cron { pattern: pattern.clone(), tz: self.tz.clone().unwrap_or_else(|| TZ_DEFAULT.to_owned()) }
            }
            (None, every) => When::Every(every.unwrap_or_default()),
        };
        let until = self.until.map(|until| when.read(until)).transpose()?;
        let spec = ScheduleSpec { when, count: self.count, until, overlap: self.overlap };
        Ok(NewSchedule {
            args: self.call.args(),
            kwargs: self.call.kwargs(),
            policy: self.call.policy(),
            unknown: self.call.unknown(),
            ..NewSchedule::new(&self.name, &self.call.task_name, spec)
        })
    }
}

/// Why a schedule was not added, and what can be done.
fn refused(error: ClientError, name: &str, before: Option<&ScheduleInfo>, on_conflict: OnConflict) -> Failure {
    let hint = match before.map(|before| &before.source) {
        Some(ScheduleSource::Module(_)) => {
            Some(format!("choose another name; pause that one with: fastworker schedule pause {name}"))
        }
        Some(ScheduleSource::Command) if on_conflict == OnConflict::Keep => {
            Some("choose another name, or replace it with --replace".to_owned())
        }
        _ => None,
    };
    kept(error, hint)
}

/// A refusal that leaves a schedule as it is, in the control plane's words.
fn kept(error: ClientError, hint: Option<String>) -> Failure {
    match (error, hint) {
        (ClientError::Refused(why), Some(hint)) => Failure::new(WRONG_USAGE, why).hint(hint),
        (error, _) => error.into(),
    }
}

/// A schedule that cannot be resumed, as it has submitted its last task.
fn finished(over: &ScheduleInfo) -> Failure {
    let name = &over.schedule.name;
    let hint = match &over.source {
        ScheduleSource::Command => format!("start it again with: fastworker schedule add {name} --replace …"),
        ScheduleSource::Module(module) => {
            format!("it belongs to the module {module}: change its count or its end there")
        }
    };
    Failure::new(TASK_FAILED, format!("schedule '{name}' is finished: it has submitted its last task")).hint(hint)
}

/// What speaks against a schedule for now: nobody has the task.
///
/// # Errors
/// When somebody has it, and it does not take the arguments.
async fn doubt(client: &Client, schedule: &NewSchedule) -> Result<Option<String>, Failure> {
    let workers = client.list_tasks().await?;
    let tasks = workers.iter().flat_map(|worker| &worker.modules).flat_map(|module| &module.tasks);
    let checks = tasks
        .filter(|task| task.name == schedule.task_name)
        .map(|task| Signature::of(task).check(&schedule.args, &schedule.kwargs));
    // Versions of a task may differ: one that takes the call is enough.
    let mut error = None;
    for check in checks {
        let Err(why) = check else { return Ok(None) };
        error = Some(why);
    }
    let name = &schedule.task_name;
    match error {
        Some(error) => {
            Err(Failure::new(WRONG_USAGE, format!("the task {name} does not take these arguments: {error}")).hint(
                format!("fastworker list shows what each task takes, and fastworker list --schema {name} all of it"),
            ))
        }
        None if schedule.unknown == Unknown::Wait => Ok(None),
        None => Ok(Some(format!("no worker has the task {name} now: submissions fail until one has"))),
    }
}

async fn trigger(client: &Client, name: &str, json: bool) -> Outcome {
    let Some(id) = client.schedules().trigger(name).await? else { return Err(unknown(client, name).await) };
    // One that nobody has, say, has ended already, and will not be missed by a script.
    let found = client.lookup(&id, Duration::ZERO).await?;
    let known = known(client, &id, json).await?;
    match found {
        Found::Ended(result) if result.status == TaskStatus::Failure => {
            render::result_of(&result, known.as_ref(), json)
        }
        Found::Ended(_) | Found::Live(_) | Found::Unknown => render::submitted(&id, known.as_ref(), json),
    }
}

fn wrong(why: BadSchedule) -> Failure {
    let hint = match &why {
        BadSchedule::Pattern { .. } | BadSchedule::Never(_) => {
            "write a pattern like '0 9 * * MON-FRI': minute, hour, day of month, month, day of week; \
             fastworker schedule add --help says more"
        }
        BadSchedule::Zone { .. } => "write a time zone like Europe/Paris, America/New_York or UTC",
        BadSchedule::Interval(_) => "for work without pauses, write a task that submits itself as a follow-up",
        BadSchedule::Count => "leave --count out to submit without end",
    };
    Failure::new(WRONG_USAGE, why).hint(hint)
}

/// A schedule that nobody knows, and those that it could be.
async fn unknown(client: &Client, name: &str) -> Failure {
    let known = client.schedules().list().await.unwrap_or_default();
    let otherwise = match known.as_slice() {
        [] => "there are none; add one with: fastworker schedule add NAME --task-name … --every 10s",
        _ => "fastworker schedule list shows every schedule",
    };
    Failure::unknown("schedule", name, known.iter().map(|known| known.schedule.name.as_str()), otherwise)
}
