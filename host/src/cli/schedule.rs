//! `fastworker schedule`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, builder::BoolishValueParser};
use clap_complete::engine::ArgValueCandidates;

use super::{Connection, Failure, NOT_FOUND, Outcome, WRONG_USAGE, call::TaskCall, complete, render, span};
use crate::{
    client::{Client, ClientError, Namesake},
    clock::Timestamp,
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
    /// Add a schedule. It lives as long as the control plane.
    Add(Box<Add>),
    /// List all schedules, those of task modules too.
    List(List),
    /// Let a schedule submit nothing until it is resumed.
    Pause(Named),
    /// Let a schedule go on.
    Resume(Named),
    /// Submit the task of a schedule now, beside its times.
    Trigger(Named),
    /// Forget a schedule. What it submitted goes on.
    Remove(Named),
}

#[derive(Args, Debug)]
#[command(after_help = ADD_HELP, group = ArgGroup::new("when").required(true).args(["every", "cron"]))]
struct Add {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
    /// Submit each time so much has passed: 100ms to ten years
    #[arg(long, env = "FASTWORKER_EVERY", value_name = "SPAN", value_parser = span)]
    every: Option<Duration>,
    /// Submit when a clock shows this: minute, hour, day of month, month, day of week
    #[arg(long, env = "FASTWORKER_CRON", value_name = "PATTERN")]
    cron: Option<String>,
    /// The time zone of that clock, such as Europe/Paris [default: UTC]
    #[arg(long, env = "FASTWORKER_TZ", value_name = "ZONE", conflicts_with = "every")]
    tz: Option<String>,
    /// Submit so many tasks at most
    #[arg(long, env = "FASTWORKER_COUNT", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Submit none after this moment, like 2026-12-31T18:00:00Z; without an offset it is local time
    #[arg(long, env = "FASTWORKER_UNTIL", value_name = "TIME")]
    until: Option<Timestamp>,
    /// While the last task has not ended: skip, or queue one
    #[arg(long, env = "FASTWORKER_OVERLAP", value_name = "WHAT", default_value = "skip")]
    overlap: Overlap,
    /// Take the place of another schedule of that name
    #[arg(long, env = "FASTWORKER_REPLACE", value_parser = BoolishValueParser::new())]
    replace: bool,
    #[command(flatten)]
    call: TaskCall,
    #[command(flatten)]
    connection: Connection,
}

const ADD_HELP: &str = "\
Cron patterns have numbers, names (MON-SUN, JAN-DEC), lists (1,15), ranges (MON-FRI) and steps
(*/10). Sunday is 0 or 7. L is the last day of the month, FRI#2 the second Friday, FRI#L the last.
A sixth field in front has seconds. @hourly, @daily, @weekly, @monthly and @yearly are patterns too.

  fastworker schedule add cleanup --task-name cleanup --every 10m
  fastworker schedule add report --task-name report --cron '0 9 * * MON-FRI' --tz Europe/Paris";

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
                Some(paused) => render::schedule("paused", &paused, json),
                None => Err(unknown(client, name).await),
            }),
            Verb::Resume(named) => {
                named.run(async |client, name, json| match client.schedules().resume(name).await? {
                    Some(finished) if finished.status == ScheduleStatus::Finished => {
                        render::note("its count or its time is over, and stays so: add it again with --replace");
                        render::schedule("finished", &finished, json)
                    }
                    Some(resumed) => render::schedule("resumed", &resumed, json),
                    None => Err(unknown(client, name).await),
                })
            }
            Verb::Trigger(named) => named.run(trigger),
            Verb::Remove(named) => named.run(async |client, name, json| {
                let removed = client.schedules().remove(name).await.map_err(|error| {
                    Failure::from(error).hint(format!("stop it with: fastworker schedule pause {name}"))
                })?;
                match removed {
                    Some(removed) => render::schedule("removed", &removed, json),
                    None => Err(unknown(client, name).await),
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
        let schedule = self.schedule();
        // Said here, with what to do about it, rather than by the control plane.
        Rhythm::of(&schedule.spec).map_err(wrong)?;
        if let Some(until) = schedule.spec.until.filter(|until| *until <= Timestamp::now()) {
            return Err(Failure::new(WRONG_USAGE, format!("--until {until} has passed, so it would submit nothing"))
                .hint("give a moment to come, or leave --until out for a schedule without an end"));
        }
        let namesake = if self.replace { Namesake::Replace } else { Namesake::Keep };
        self.connection.run(async |client| {
            let known = client.schedules().list().await?;
            let before = known.into_iter().find(|known| known.schedule.name == schedule.name);
            let added = client
                .schedules()
                .add(schedule, namesake)
                .await
                .map_err(|error| refused(error, &self.name, before.as_ref(), namesake))?;
            if let Some(doubt) = doubt(client, &added.schedule).await? {
                render::note(&doubt);
            }
            let is_known = before.is_some_and(|before| before.schedule == added.schedule);
            render::schedule(if is_known { "unchanged" } else { "added" }, &added, self.connection.json)
        })
    }

    fn schedule(&self) -> NewSchedule {
        let when = match (&self.cron, self.every) {
            (Some(pattern), _) => {
                When::Cron { pattern: pattern.clone(), tz: self.tz.clone().unwrap_or_else(|| TZ_DEFAULT.to_owned()) }
            }
            (None, every) => When::Every(every.unwrap_or_default()),
        };
        let spec = ScheduleSpec { when, count: self.count, until: self.until, overlap: self.overlap };
        NewSchedule {
            args: self.call.args(),
            kwargs: self.call.kwargs(),
            policy: self.call.policy(),
            unknown: self.call.unknown(),
            ..NewSchedule::new(&self.name, &self.call.task_name, spec)
        }
    }
}

/// Why a schedule was not added, and what can be done.
fn refused(error: ClientError, name: &str, before: Option<&ScheduleInfo>, namesake: Namesake) -> Failure {
    let is_refused = matches!(error, ClientError::Refused(_));
    let failure = Failure::from(error);
    match before.map(|before| &before.source) {
        Some(ScheduleSource::Module(_)) if is_refused => {
            failure.hint(format!("take another name; stop that one with: fastworker schedule pause {name}"))
        }
        Some(ScheduleSource::Command) if is_refused && namesake == Namesake::Keep => {
            failure.hint("take another name, or --replace to put this one in its place")
        }
        _ => failure,
    }
}

/// What speaks against a schedule as things are: nobody has the task, or it does not take the arguments.
async fn doubt(client: &Client, schedule: &NewSchedule) -> Result<Option<String>, ClientError> {
    let workers = client.list_tasks().await?;
    let tasks = workers.iter().flat_map(|worker| &worker.modules).flat_map(|module| &module.tasks);
    let checks = tasks
        .filter(|task| task.name == schedule.task_name)
        .map(|task| Signature::of(task).check(&schedule.args, &schedule.kwargs));
    // Versions of a task may differ: one that takes the call is enough.
    let mut misfit = None;
    for check in checks {
        let Err(why) = check else { return Ok(None) };
        misfit = Some(why);
    }
    Ok(match misfit {
        Some(misfit) => Some(format!("its tasks will fail: {misfit}")),
        None if schedule.unknown == Unknown::Wait => None,
        None => Some(format!("no worker has the task '{}' now: its tasks fail until one has", schedule.task_name)),
    })
}

async fn trigger(client: &Client, name: &str, json: bool) -> Outcome {
    let Some(id) = client.schedules().trigger(name).await? else { return Err(unknown(client, name).await) };
    // One that nobody has, say, has ended already, and will not be missed by a script.
    match client.lookup(&id, Duration::ZERO).await? {
        Found::Ended(result) if result.status == TaskStatus::Failure => render::result(&result, json),
        Found::Ended(_) | Found::Live(_) | Found::Unknown => render::submitted(&id, json),
    }
}

fn wrong(why: BadSchedule) -> Failure {
    let hint = match &why {
        BadSchedule::Pattern { .. } | BadSchedule::Never(_) => {
            "a pattern is like '0 9 * * MON-FRI': minute, hour, day of month, month, day of week; \
             fastworker schedule add --help has more"
        }
        BadSchedule::Zone { .. } => "a time zone is like Europe/Paris, America/New_York or UTC",
        BadSchedule::Interval(_) => "for what should run all the time, write a task that submits itself as a follow-up",
        BadSchedule::Count => "leave --count out for a schedule without an end",
    };
    Failure::new(WRONG_USAGE, why).hint(hint)
}

/// A schedule that nobody knows, and those that it could be.
async fn unknown(client: &Client, name: &str) -> Failure {
    let failure = Failure::new(NOT_FOUND, format!("there is no schedule '{name}'"));
    let known = client.schedules().list().await.unwrap_or_default();
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let names = known.iter().map(|known| known.schedule.name.as_str());
    let nearest = names.map(|name| (likeness(name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((likeness, nearest)) if likeness > 0.75 => failure.hint(format!("did you mean '{nearest}'?")),
        Some(_) => failure.hint("fastworker schedule list shows those that there are"),
        None => {
            failure.hint("there is none at all; add one with: fastworker schedule add NAME --task-name … --every 10s")
        }
    }
}
