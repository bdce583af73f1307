//! The command line: one file for each command.
//!
//! Each option is a flag, else a variable `FASTWORKER_…`, else a default. [`render`] is the only
//! file that prints.

use std::{fmt, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint, builder::BoolishValueParser};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::{
    client::{Client, ClientError},
    clock::SPAN_MAX,
    config::Address,
    control_plane::ControlPlaneError,
    gui::GuiError,
    json::Json,
    shutdown::Signals,
    subworker::{ModulesConfig, ModulesError, SubWorkerError, crew::CrewError, link::NotFound},
    task::{SerializationFormat, TaskId, TaskPriority},
};

mod bench;
mod call;
mod cancel;
mod complete;
mod completions;
mod control_plane;
mod dev;
mod events;
mod list;
mod listen;
mod man;
mod new;
mod render;
mod result;
mod schedule;
mod status;
mod submit;
mod subworker;
mod tasks;
mod workers;

/// The task failed.
const TASK_FAILED: u8 = 1;
/// The command was used in a way that cannot work.
const WRONG_USAGE: u8 = 2;
/// Nobody answered where the control plane should be.
const UNREACHABLE: u8 = 3;
/// The task has not ended, or not within the wait.
const TIMED_OUT: u8 = 4;
/// Nobody knows that task, worker or file.
const NOT_FOUND: u8 = 5;
/// Stopped by a signal.
const INTERRUPTED: u8 = 130;

/// A task queue without a broker, whose tasks are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "fastworker", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every option can be set by a variable FASTWORKER_…, shown with it; the flag goes before the variable. \
Of options that exclude each other only one may be set, by flag or variable.

Exit codes: 0 done, 1 the task failed, 2 wrong usage, 3 control plane unreachable, 4 wait timed out \
or task not ended, 5 not found, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the control plane: it orders tasks, hands them to workers and keeps results. With
    /// --task-modules it runs tasks itself, too.
    ControlPlane(control_plane::ControlPlane),
    /// Start a subworker: it loads task modules and runs tasks for a control plane.
    Subworker(subworker::Subworker),
    /// Submit a task, and wait for its result unless told otherwise.
    Submit(submit::SubmitTask),
    /// Print a task's result, as submit does.
    Result(result::ResultOf),
    /// Show how a task stands or ended.
    Status(status::Status),
    /// Stop a task, whether it waits or runs.
    Cancel(cancel::Cancel),
    /// Show recent tasks: running, waiting and ended ones.
    Tasks(tasks::Tasks),
    /// Show the workers and how they stand.
    Workers(workers::Workers),
    /// Show what happened: tasks that ended, workers that came and went.
    Events(events::ShowEvents),
    /// Submit a task again and again: at intervals, or when a clock shows what a cron pattern says.
    Schedule(schedule::Schedule),
    /// List the tasks that workers have loaded, or what module files offer.
    List(list::List),
    /// Show callbacks as they come in, to try them out.
    Listen(listen::Listen),
    /// Make a crate of tasks in Rust that builds, tests and runs as it stands.
    New(new::New),
    /// Run one call of a module in this process, without ports: the loop of a task's author.
    Dev(dev::Dev),
    /// Measure this machine: latency and throughput next to what the parts alone can do.
    Bench(bench::Bench),
    /// Print the script that lets a shell complete commands, options, task names and ids.
    Completions(completions::Completions),
    /// Print a page of the manual, or write all of them.
    Man(man::Man),
}

/// How a command ends.
type Outcome = Result<u8, Failure>;

/// Why a command did not work out, in words for people.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// A task that has not ended in time.
    fn not_ended(id: &TaskId, waited: Duration) -> Self {
        ClientError::TimedOut { task_id: id.clone(), waited }.into()
    }

    /// An interruption, where it leaves this task to itself.
    fn leaves(self, id: &TaskId) -> Self {
        if self.code != INTERRUPTED {
            return self;
        }
        Self::new(INTERRUPTED, format!("interrupted; task {id} goes on"))
            .hint(format!("wait for it with: fastworker result {id} --wait; or stop it: fastworker cancel {id}"))
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Runs the command line. The exit code says how it ended.
pub fn main() -> ExitCode {
    if complete::answer_shell() {
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::ControlPlane(command) => command.run(),
        Command::Subworker(command) => command.run(),
        Command::Submit(command) => command.run(),
        Command::Result(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Cancel(command) => command.run(),
        Command::Tasks(command) => command.run(),
        Command::Workers(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Listen(command) => command.run(),
        Command::New(command) => command.run(),
        Command::Dev(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    let code = outcome.unwrap_or_else(|failure| {
        render::failure(&failure);
        failure.code
    });
    ExitCode::from(code)
}

/// Where the control plane is and how to talk to it: the options of every client command.
#[derive(Args, Debug)]
struct Connection {
    /// Where the control plane announces itself
    #[arg(long, env = "FASTWORKER_DISCOVERY_ADDRESS", default_value = crate::config::DISCOVERY_ADDRESS, value_name = "ADDRESS")]
    discovery_address: Address,
    /// The control plane's base address, to go there without looking for it
    #[arg(long, env = "FASTWORKER_CONTROL_PLANE_ADDRESS", value_name = "ADDRESS")]
    control_plane_address: Option<Address>,
    /// The longest that the command waits
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = span, value_name = "SPAN")]
    timeout: Duration,
    /// How messages are written: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl Connection {
    fn client(&self) -> Client {
        let builder = Client::builder()
            .discovery_address(self.discovery_address.clone())
            .serialization_format(self.serialization_format)
            .timeout(self.timeout);
        match &self.control_plane_address {
            Some(address) => builder.control_plane_address(address.clone()).build(),
            None => builder.build(),
        }
    }

    /// Runs `work` with a started client. Ctrl-C ends it.
    fn run(&self, work: impl AsyncFnOnce(&Client) -> Outcome) -> Outcome {
        let client = self.client();
        block_on(async {
            client.start().await?;
            let outcome = work(&client).await;
            client.stop();
            outcome
        })
    }
}

/// Runs async work on this thread, until it is done or Ctrl-C is pressed.
fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(TASK_FAILED, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(INTERRUPTED, "interrupted")),
        }
    })
}

/// The modules of a worker.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
struct Modules {
    /// Task modules to load: .wasm files, folders and patterns; several, and repeated
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Slots: how many tasks run at a time [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Where compiled modules are kept [default: fastworker/compiled in the user's cache folder]
    #[arg(long, env = "FASTWORKER_CACHE_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    cache_dir: Option<std::path::PathBuf>,
    /// How long a module may be gone from its folder before it is dropped
    #[arg(long, env = "FASTWORKER_MODULE_GRACE", default_value = "5s", value_parser = span, value_name = "SPAN")]
    module_grace: Duration,
    /// Reload a module although tasks wait whose arguments the new version does not take
    #[arg(long, env = "FASTWORKER_FORCE_RELOAD", value_parser = BoolishValueParser::new())]
    force_reload: bool,
    /// Keep what was loaded at the start, whatever becomes of the files
    #[arg(long, env = "FASTWORKER_NO_RELOAD", value_parser = BoolishValueParser::new())]
    no_reload: bool,
}

impl Modules {
    fn config(&self) -> ModulesConfig {
        let usual = ModulesConfig::default();
        ModulesConfig {
            sources: self.task_modules.clone(),
            concurrency: self.concurrency.map_or(usual.concurrency, usize::from),
            cache_dir: self.cache_dir.clone().or(usual.cache_dir),
            reload: !self.no_reload,
            module_grace: self.module_grace,
            force_reload: self.force_reload,
        }
    }
}

/// How a server runs.
#[derive(Args, Debug)]
struct Serving {
    /// The least important log lines to print: trace, debug, info, warn or error; also for parts,
    /// such as info,task=debug for what tasks say
    #[arg(long, env = "FASTWORKER_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = render::levels)]
    log_level: render::Levels,
    /// How log lines are written: for people, or one JSON object a line
    #[arg(long, env = "FASTWORKER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: render::LogFormat,
    /// How long running tasks may take to finish after the first SIGTERM or Ctrl-C
    #[arg(long, env = "FASTWORKER_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = span, value_name = "SPAN")]
    shutdown_timeout: Duration,
    /// Print a line of JSON when it is ready
    #[arg(long, env = "FASTWORKER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl Serving {
    /// Starts logging, raises the limit on open files, starts what `start` starts, and stops it
    /// with `stop` after the first signal. A second signal ends the process at once. What `start`
    /// starts must serve signals before it says that it is ready: whoever hears that may send one.
    fn run<S>(&self, start: impl FnOnce(&Signals) -> Result<S, Failure>, stop: impl FnOnce(S, Duration)) -> Outcome {
        crate::memory::give_large_blocks_back();
        render::log(&self.log_level, self.log_format);
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
        let mut signals = Signals::listen(INTERRUPTED)
            .map_err(|error| Failure::new(TASK_FAILED, format!("cannot listen for signals: {error}")))?;
        let started = start(&signals)?;
        signals.first();
        tracing::info!(timeout_s = crate::clock::seconds(self.shutdown_timeout), "draining; signal again to stop now");
        signals.exit_on_next(INTERRUPTED);
        stop(started, self.shutdown_timeout);
        Ok(0)
    }
}

/// Reads `250ms`, `30s`, `5m`, `1h 30m`, `2d`, or a number of seconds.
fn span(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "write a span like 250ms, 30s, 5m, 1h 30m, 2d or 30";
    const TOO_LONG: &str = "a span is at most ten years";
    let mut left = text.trim();
    if let Some(number) = left.strip_prefix('-')
        && number.starts_with(|first: char| first.is_ascii_digit())
    {
        return Err("a span is not negative".into());
    }
    let (mut seconds, mut parts) = (0.0, 0);
    while !left.is_empty() || parts == 0 {
        let unit = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let (number, rest) = left.split_at(unit);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        left = rest.trim_start();
        parts += 1;
        let scale = match unit {
            "ms" => 0.001,
            // Without a unit only where it is all there is.
            "" if parts == 1 && left.is_empty() => 1.0,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(FORMS.into()),
        };
        seconds += scale * number.parse::<f64>().map_err(|_| FORMS)?;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|span| *span <= SPAN_MAX).ok_or_else(|| TOO_LONG.into())
}

/// Reads a span in which something can happen.
fn span_above_zero(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("within no time nothing can run: write a span like 30s".into()),
        span => Ok(span),
    }
}

/// Reads an argument as JSON where it is JSON, else as text.
fn argument(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::of(text).unwrap_or_else(|_| Json::null()))
}

/// The JSON array of these arguments.
fn array(arguments: &[String]) -> Json {
    let items: Vec<Json> = arguments.iter().map(|text| argument(text)).collect();
    Json::of(&items).unwrap_or_else(|_| Json::empty_array())
}

/// The JSON object of these `key=value` pairs.
fn object(pairs: &[(String, Json)]) -> Json {
    struct Pairs<'a>(&'a [(String, Json)]);
    impl serde::Serialize for Pairs<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
        }
    }
    Json::of(&Pairs(pairs)).unwrap_or_else(|_| Json::empty_object())
}

/// Reads `key=value`.
fn pair(text: &str) -> Result<(String, Json), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), argument(value))),
        _ => Err("write a named argument like name=value".into()),
    }
}

/// Reads a JSON document.
fn document(text: &str) -> Result<Json, String> {
    Json::parse(text).map_err(|error| format!("{error}: a text is written with quotes, like '\"text\"'"))
}

/// Reads a JSON array.
fn json_array(text: &str) -> Result<Json, String> {
    match Json::parse(text) {
        Ok(json) if json.as_str().starts_with('[') => Ok(json),
        Ok(_) => Err("the arguments are one JSON array, like '[5, 3]'".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Self::new(UNREACHABLE, message).hint(
                "start one with: fastworker control-plane --task-modules X.wasm, \
                     or say where it is: --control-plane-address, --discovery-address",
            ),
            ClientError::TimedOut { task_id, .. } => {
                Self::new(TIMED_OUT, message).hint(format!("wait for it with: fastworker result {task_id} --wait"))
            }
            ClientError::BadArguments(_) | ClientError::TooLarge { .. } | ClientError::Address(_) => {
                Self::new(WRONG_USAGE, message)
            }
            _ => Self::new(TASK_FAILED, message),
        }
    }
}

impl From<ModulesError> for Failure {
    fn from(error: ModulesError) -> Self {
        match &error {
            ModulesError::Source(_) => Self::new(NOT_FOUND, error).hint(
                "--task-modules takes .wasm files, folders with .wasm files, and patterns such as 'build/*.wasm'",
            ),
            ModulesError::Load(_) => Self::new(WRONG_USAGE, error).hint(
                "docs/tasks.md shows how a task module is built; fastworker list --task-modules X.wasm inspects one",
            ),
            ModulesError::Runtime(_) => Self::new(TASK_FAILED, error),
        }
    }
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match &error {
            NotFound::Unreachable { .. } => Self::new(UNREACHABLE, error).hint(
                "start one with: fastworker control-plane, \
                     or say where it is: --control-plane-address, --discovery-address",
            ),
            NotFound::Open(_) | NotFound::Address(_) => Self::new(WRONG_USAGE, error),
        }
    }
}

impl From<ControlPlaneError> for Failure {
    fn from(error: ControlPlaneError) -> Self {
        let message = error.to_string();
        match error {
            ControlPlaneError::Modules(error) => error.into(),
            ControlPlaneError::Open(_) => Self::new(TASK_FAILED, message)
                .hint("another control plane may be running: give this one other ports with --base-address, --discovery-address and --subworker-port"),
            ControlPlaneError::Exposed(crate::config::Exposed::WithoutToken(_)) => Self::new(WRONG_USAGE, message)
                .hint("listen on 127.0.0.1, or say --insecure on a network where you trust everybody"),
            ControlPlaneError::Exposed(crate::config::Exposed::NotDialable(_)) => Self::new(WRONG_USAGE, message)
                .hint("say what others dial, such as --advertise-address tcp://10.0.0.5:5555"),
            ControlPlaneError::Address(_) | ControlPlaneError::WorkerId(_) => Self::new(WRONG_USAGE, message),
            ControlPlaneError::Crew(error) => error.into(),
            ControlPlaneError::Gui(GuiError::Listen { .. }) => Self::new(TASK_FAILED, message)
                .hint("choose another port with --gui-port, 0 for any that is free, or do without: --no-gui"),
            ControlPlaneError::Gui(GuiError::Exposed(_)) => Self::new(WRONG_USAGE, message).hint(
                "set a key by FASTWORKER_GUI_API_KEY, or say --insecure on a network where you trust everybody",
            ),
            ControlPlaneError::Thread(_) => Self::new(TASK_FAILED, message),
        }
    }
}

impl From<CrewError> for Failure {
    fn from(error: CrewError) -> Self {
        match &error {
            CrewError::Refused(_) => Self::new(WRONG_USAGE, error),
            CrewError::Call(_) => Self::new(UNREACHABLE, error).hint(
                "the control plane was found, but not its subworker port: see --subworker-port and --advertise-address",
            ),
            CrewError::Thread(_) => Self::new(TASK_FAILED, error),
        }
    }
}

impl From<SubWorkerError> for Failure {
    fn from(error: SubWorkerError) -> Self {
        match error {
            SubWorkerError::Modules(error) => error.into(),
            SubWorkerError::NotFound(error) => error.into(),
            SubWorkerError::Crew(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable() {
        fn check(command: &clap::Command) {
            for option in command
                .get_arguments()
                .filter(|option| option.get_long().is_some_and(|long| !["help", "version"].contains(&long)))
            {
                let variable = option.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                // Its variable would repeat one submission for ever; and --no-gui has FASTWORKER_GUI_ENABLED.
                let exempt = [("submit", "task-id"), ("control-plane", "no-gui")];
                let is_exempt = exempt.contains(&(command.get_name(), option.get_long().unwrap_or_default()));
                assert!(is_exempt || variable.starts_with("FASTWORKER_"), "{} {option:?}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
    }

    #[test]
    fn the_operating_manual_has_every_command_and_every_option_with_its_variable_and_default() {
        const MANUAL: &str = include_str!("../../../docs/operating.md");
        fn check(command: &clap::Command, above: &str) {
            let name = format!("{above}{}", command.get_name());
            assert!(MANUAL.contains(&format!("`fastworker {name}")), "docs/operating.md: no `fastworker {name}`");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
                let variable = option.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
                let defaults = option.get_default_values().iter().filter(|_| option.get_action().takes_values());
                let words: Vec<String> = defaults.map(|value| value.to_string_lossy().into()).chain(variable).collect();
                let mut rows = MANUAL.lines().filter(|line| line.starts_with(&format!("| `--{long}")));
                let is_told = |row: &str| words.iter().all(|word| row.contains(word.as_str()));
                assert!(rows.any(is_told), "docs/operating.md: no row of --{long} of {name} with {words:?}");
            }
            let below = command.get_subcommands().filter(|command| command.get_name() != "help");
            below.for_each(|command| check(command, &format!("{name} ")));
        }
        let mut command = Cli::command();
        command.build();
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|it| check(it, ""));
    }

    #[test]
    fn an_argument_is_json_where_it_is_json_and_text_elsewhere() {
        let arguments = ["-5", "3", "true", "hello", "[1, 2]", "\"3\"", "1 2", "NaN"].map(str::to_owned);
        assert_eq!(array(&arguments).as_str(), r#"[-5,3,true,"hello",[1, 2],"3","1 2","NaN"]"#);
    }

    #[test]
    fn negative_numbers_are_arguments_and_options_still_are_options() {
        let cli = Cli::try_parse_from(["fastworker", "submit", "--task-name", "add", "--args", "-5", "3", "--json"]);
        let Ok(Cli { command: Command::Submit(submit) }) = cli else { panic!("{cli:?}") };
        assert!(format!("{submit:?}").contains(r#"args: ["-5", "3"]"#), "{submit:?}");
    }

    #[test]
    fn spans_are_read_with_and_without_a_unit() {
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(span("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(span("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(span("2d"), Ok(Duration::from_hours(48)));
        let refused = ["5 parsecs", "", "1h 30", "s", "1.2.3"].map(|text| span(text).expect_err("it is no span"));
        assert!(refused.iter().all(|why| why.starts_with("write a span like")), "{refused:?}");
        assert_eq!(span("-1s"), Err("a span is not negative".into()));
        assert_eq!(
            [span("11000d"), span(&"9".repeat(400))],
            [(); 2].map(|()| Err("a span is at most ten years".into()))
        );
        assert!(span_above_zero("0").is_err() && span_above_zero("1ms").is_ok());
    }
}
