//! `fastworker schedule`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, ConnectionOptions, EXIT_FAILURE, EXIT_USAGE,
    call::TaskCall,
    complete, parse_bool, parse_duration, parse_from_str, parse_number,
    render::{self, ScheduleChange},
    submit::describe_for_json,
    values::parse_schedule_name,
};
use crate::{
    client::{Client, ClientError, OnConflict},
    clock::{TimeText, Timestamp},
    protocol::{Found, NewSchedule, ScheduleInfo, ScheduleSource, ScheduleStatus},
    signature::Signature,
    task::{
        ScheduleSpec, TaskStatus, Unknown,
        schedule::{BadSchedule, Overlap, Recurrence, TZ_DEFAULT, When},
    },
};

#[derive(Args, Debug)]
pub(super) struct ScheduleCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a schedule. It is lost when the control plane stops
    Add(Box<AddCommand>),
    /// List the schedules, including those of task modules
    List(ListCommand),
    /// Pause a schedule
    Pause(NamedCommand),
    /// Resume a paused schedule
    Resume(NamedCommand),
    /// Submit a schedule's task now, in addition to its regular times
    Trigger(NamedCommand),
    /// Remove a schedule. Tasks that it has already submitted continue
    Remove(NamedCommand),
}

#[derive(Args, Debug)]
#[command(after_help = ADD_HELP, group = ArgGroup::new("when").required(true).args(["every", "cron"]))]
struct AddCommand {
    /// Name of the schedule
    #[arg(value_name = "NAME", value_parser = parse_schedule_name)]
    name: String,
    /// Interval between submissions, at least 100ms
    #[arg(long, env = "FASTWORKER_EVERY", value_name = "DURATION", value_parser = parse_duration)]
    every: Option<Duration>,
    /// Cron pattern of the submission times: minute, hour, day of month, month, day of week
    #[arg(long, env = "FASTWORKER_CRON", value_name = "PATTERN")]
    cron: Option<String>,
    /// Time zone of the pattern, such as Europe/Paris [default: UTC]
    #[arg(long, env = "FASTWORKER_TZ", value_name = "ZONE", conflicts_with = "every")]
    tz: Option<String>,
    /// Maximum number of tasks to submit
    #[arg(long, env = "FASTWORKER_SCHEDULE_COUNT", value_name = "COUNT", value_parser = parse_number::<u64, 1, { u64::MAX }>)]
    count: Option<u64>,
    /// End time, such as 2026-12-31T18:00:00Z. Without a UTC offset it is in the time zone of --tz
    #[arg(long, env = "FASTWORKER_UNTIL", value_name = "TIME", value_parser = parse_from_str::<TimeText>)]
    until: Option<TimeText>,
    /// If the previous task has not ended: skip the submission, or queue one
    #[arg(long, env = "FASTWORKER_OVERLAP", value_name = "WHAT", default_value = "skip", value_parser = parse_from_str::<Overlap>,
          add = ArgValueCandidates::new(complete::overlaps))]
    overlap: Overlap,
    /// Replace an existing schedule of the same name
    #[arg(long, env = "FASTWORKER_REPLACE", value_parser = parse_bool)]
    replace: bool,
    #[command(flatten)]
    call: TaskCall,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const ADD_HELP: &str = "\
A cron pattern consists of numbers, names (MON-SUN, JAN-DEC), lists (1,15), ranges (MON-FRI) and steps (*/10). \
Sunday is 0 or 7. L is the last day of the month, FRI#2 the second Friday, FRI#L the last Friday. An additional \
first field sets the seconds. @hourly, @daily (or @midnight), @weekly, @monthly and @yearly (or @annually) are \
accepted as well.

Examples:

  fastworker schedule add cleanup --task-name cleanup --every 10m
  fastworker schedule add report --task-name report --cron '0 9 * * MON-FRI'";

#[derive(Args, Debug)]
struct ListCommand {
    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Args, Debug)]
struct NamedCommand {
    /// Name of the schedule
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::schedules))]
    name: String,
    #[command(flatten)]
    connection: ConnectionOptions,
}

impl ScheduleCommand {
    pub(super) fn run(self) -> CommandResult {
        match self.action {
            Action::Add(add) => add.run(),
            Action::List(ListCommand { connection }) => connection
                .run(async |client| render::print_schedules(&client.schedules().list().await?, connection.json)),
            Action::Pause(target) => {
                target.run(async |client, name, json| match client.schedules().pause(name).await? {
                    Some(paused) => render::print_schedule(ScheduleChange::Paused, &paused, json),
                    None => Err(schedule_not_found(client, name).await),
                })
            }
            Action::Resume(target) => {
                target.run(async |client, name, json| match client.schedules().resume(name).await? {
                    Some(schedule) if schedule.status == ScheduleStatus::Finished => Err(schedule_finished(&schedule)),
                    Some(resumed) => render::print_schedule(ScheduleChange::Resumed, &resumed, json),
                    None => Err(schedule_not_found(client, name).await),
                })
            }
            Action::Trigger(target) => target.run(trigger),
            Action::Remove(target) => {
                target.run(async |client, name, json| match client.schedules().remove(name).await {
                    Ok(Some(removed)) => render::print_schedule(ScheduleChange::Removed, &removed, json),
                    Ok(None) => Err(schedule_not_found(client, name).await),
                    Err(error) => {
                        let hint = format!("pause it with: fastworker schedule pause {name}");
                        Err(with_hint(error, Some(hint)))
                    }
                })
            }
        }
    }
}

impl NamedCommand {
    fn run(self, work: impl AsyncFnOnce(&Client, &str, bool) -> CommandResult) -> CommandResult {
        let Self { name, connection } = &self;
        connection.run(async |client| work(client, name, connection.json).await)
    }
}

impl AddCommand {
    fn run(self) -> CommandResult {
        let schedule = self.schedule().map_err(invalid_schedule)?;
        // Checked here, since the control plane's refusal has no hint.
        Recurrence::of(&schedule.spec).map_err(invalid_schedule)?;
        if let Some(until) = schedule.spec.until.filter(|until| *until <= Timestamp::now()) {
            return Err(CliError::new(EXIT_USAGE, format!("--until {until} is in the past"))
                .hint("give a time in the future, or omit --until"));
        }
        let on_conflict = if self.replace { OnConflict::Replace } else { OnConflict::Keep };
        self.connection.run(async |client| {
            let warning = availability_warning(client, &schedule).await?;
            let existing = client.schedules().list().await?;
            let before = existing.into_iter().find(|info| info.schedule.name == schedule.name);
            let added = client
                .schedules()
                .add(schedule, on_conflict)
                .await
                .map_err(|error| add_refused(error, &self.name, before.as_ref(), on_conflict))?;
            if let Some(warning) = warning {
                render::print_note(&warning);
            }
            let change = match before {
                Some(before) if before.schedule == added.schedule => ScheduleChange::Unchanged,
                Some(_) => ScheduleChange::Replaced,
                None => ScheduleChange::Added,
            };
            render::print_schedule(change, &added, self.connection.json)
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

/// The error for a schedule that was not added, with a hint.
fn add_refused(error: ClientError, name: &str, before: Option<&ScheduleInfo>, on_conflict: OnConflict) -> CliError {
    let hint = match before.map(|before| &before.source) {
        Some(ScheduleSource::Module(_)) => {
            Some(format!("choose another name; pause that one with: fastworker schedule pause {name}"))
        }
        Some(ScheduleSource::Command) if on_conflict == OnConflict::Keep => {
            Some("choose another name, or replace it with --replace".to_owned())
        }
        _ => None,
    };
    with_hint(error, hint)
}

/// A refusal by the control plane, with a hint.
fn with_hint(error: ClientError, hint: Option<String>) -> CliError {
    match (error, hint) {
        (ClientError::Refused(refusal), Some(hint)) => CliError::new(EXIT_USAGE, refusal).hint(hint),
        (error, _) => error.into(),
    }
}

/// The error for resuming a schedule that has already submitted its last task.
fn schedule_finished(schedule: &ScheduleInfo) -> CliError {
    let name = &schedule.schedule.name;
    let hint = match &schedule.source {
        ScheduleSource::Command => format!("start it again with: fastworker schedule add {name} --replace …"),
        ScheduleSource::Module(module) => {
            format!("it belongs to the module {module}: change its count or end time there")
        }
    };
    CliError::new(EXIT_FAILURE, format!("schedule '{name}' is finished: it has submitted its last task")).hint(hint)
}

/// A warning if no worker has the task of a schedule.
///
/// # Errors
/// If a worker has the task, and it does not accept the arguments.
async fn availability_warning(client: &Client, schedule: &NewSchedule) -> Result<Option<String>, CliError> {
    let workers = client.list_tasks().await?;
    let tasks = workers.iter().flat_map(|worker| &worker.modules).flat_map(|module| &module.tasks);
    let checks = tasks
        .filter(|task| task.name == schedule.task_name)
        .map(|task| Signature::of(task).check(&schedule.args, &schedule.kwargs));
    // Workers may have different versions of the task: one that accepts the call is enough.
    let mut error = None;
    for check in checks {
        let Err(mismatch) = check else { return Ok(None) };
        error = Some(mismatch);
    }
    let name = &schedule.task_name;
    match error {
        Some(error) => Err(CliError::new(
            EXIT_USAGE,
            format!("the task {name} does not accept these arguments: {error}"),
        )
        .hint(format!(
            "fastworker list shows the parameters of each task, and fastworker list --schema {name} its full schema"
        ))),
        None if schedule.unknown == Unknown::Wait => Ok(None),
        None => Ok(Some(format!("no worker has the task {name} yet: submissions fail until one does"))),
    }
}

async fn trigger(client: &Client, name: &str, json: bool) -> CommandResult {
    let Some(id) = client.schedules().trigger(name).await? else { return Err(schedule_not_found(client, name).await) };
    // A task that has already failed, such as one that no worker has, is reported as an error.
    let found = client.lookup(&id, Duration::ZERO).await?;
    let details = describe_for_json(client, &id, json).await?;
    match found {
        Found::Ended(result) if result.status == TaskStatus::Failure => {
            render::print_task_result(&result, details.as_ref(), json)
        }
        Found::Ended(_) | Found::Live(_) | Found::Unknown => render::print_submitted(&id, details.as_ref(), json),
    }
}

fn invalid_schedule(error: BadSchedule) -> CliError {
    let hint = match &error {
        BadSchedule::Pattern { .. } | BadSchedule::Never(_) => {
            "write a pattern like '0 9 * * MON-FRI': minute, hour, day of month, month, day of week; \
             see fastworker schedule add --help"
        }
        BadSchedule::Zone { .. } => "write a time zone like Europe/Paris, America/New_York or UTC",
        BadSchedule::Interval(_) => "for work without pauses, write a task that submits itself as a follow-up",
        BadSchedule::Count => "omit --count to submit without a limit",
    };
    CliError::new(EXIT_USAGE, error).hint(hint)
}

/// The error for an unknown schedule, with similar names.
async fn schedule_not_found(client: &Client, name: &str) -> CliError {
    let schedules = client.schedules().list().await.unwrap_or_default();
    let otherwise = match schedules.as_slice() {
        [] => "there are none; add one with: fastworker schedule add NAME --task-name … --every 10s",
        _ => "fastworker schedule list shows every schedule",
    };
    CliError::not_found("schedule", name, schedules.iter().map(|info| info.schedule.name.as_str()), otherwise)
}
