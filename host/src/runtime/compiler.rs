//! Compiling modules within bounds.
//!
//! Apart because a module is hostile input before it runs, too: a small one can keep a compiler busy
//! for minutes and make it ask for gigabytes. So each is compiled in a process of its own, with limits
//! on its memory and time, which has nothing but two pipes: the module comes in through one, and the
//! code leaves through the other. Whatever happens there, this process only learns that the module
//! cannot be compiled.
//!
//! A program that embeds this library is never started a second time without its consent: see
//! [`Compiler`].

use std::{
    cell::Cell,
    env,
    io::{self, Read, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rlimit::Resource;
use rustix::process::{Pid, setpriority_pgrp};
use wasmtime::Engine;

use super::{Inner, LOADER_NICENESS, compiled, give_way, module::ModuleError};
use crate::clock::seconds;

mod child;
mod turns;

use self::turns::Turn;
pub(super) use self::turns::Turns;

/// The only argument of a program that is started to compile a module.
pub const COMPILE_ARGUMENT: &str = "compile-module";
/// Bytes of memory that compiling one module may take. A Python module of 22 MB takes a fifth of that.
pub const COMPILE_MEMORY_MAX: u64 = 2 << 30;
/// Processor time that compiling one module may take. A Python module of 22 MB takes a tenth of that.
pub const COMPILE_TIMEOUT: Duration = Duration::from_mins(2);
/// On a busy machine it may take so many times longer by the clock.
const WALL_FACTOR: u32 = 5;
/// Bytes of compiled code of one module.
const CODE_MAX: u64 = 1 << 30;
/// Bytes that are kept of what a compiler prints: its last words, if it breaks.
const WORDS_MAX: usize = 2_000;
/// A compiler that takes longer than this gives way to whatever else runs. Most modules take less.
const PROMPT: Duration = Duration::from_secs(1);
/// How often it is checked whether the code is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a compiler may take to end once it has closed its output.
const END_MAX: Duration = Duration::from_secs(2);
/// Stack of a thread that compiles in this process, or runs a module while it registers its tasks.
pub(super) const STACK: usize = 4 * 1024 * 1024;

/// Who compiles the modules that are not in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This program, started for each module with the one argument [`COMPILE_ARGUMENT`], an empty
    /// environment and nothing open but pipes; its memory and time are limited. It must call
    /// [`compile_if_asked`] first thing in its `main`, as `fastworker` does. Name the installed
    /// `fastworker` of the same version here, or your own program.
    Binary(PathBuf),
    /// This process, on threads of low priority. Nothing limits the memory and the time that a
    /// module takes then, and the allocator may keep what was used: only for modules that you trust.
    InProcess,
}

/// The program that this process runs, once it has said that it can compile.
static THIS_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

impl Default for Compiler {
    /// This program, if its `main` called [`compile_if_asked`]; else this process.
    fn default() -> Self {
        THIS_PROGRAM.get().cloned().map_or(Self::InProcess, Self::Binary)
    }
}

/// Call this first thing in `main` to let this library start your program as a compiler of modules
/// ([`Compiler::Binary`]). If it was started as one, this does the work and ends the process.
pub fn compile_if_asked() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILE_ARGUMENT) && arguments.next().is_none() {
        child::run()
    }
    let program = if cfg!(target_os = "linux") {
        // Leads to the program that runs, even if its file was replaced meanwhile.
        Some(PathBuf::from("/proc/self/exe"))
    } else {
        env::current_exe().ok()
    };
    if let Some(program) = program {
        THIS_PROGRAM.get_or_init(|| program);
    }
}

/// How a module is compiled.
pub(super) struct Effort<'a> {
    /// On how many threads.
    threads: usize,
    /// Once it is set, nobody wants the code any more.
    unwanted: &'a AtomicBool,
    /// Whether its thread is there for nothing else.
    is_aside: bool,
    /// The turn that it has already.
    turn: Cell<Option<Turn<'a>>>,
}

impl<'a> Effort<'a> {
    pub(super) fn new(threads: usize, unwanted: &'a AtomicBool) -> Self {
        Self { threads, unwanted, is_aside: false, turn: Cell::new(None) }
    }

    /// On a thread that is there for nothing else.
    pub(super) fn aside(threads: usize, unwanted: &'a AtomicBool) -> Self {
        Self { is_aside: true, ..Self::new(threads, unwanted) }
    }

    fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }

    /// Waits for a turn, before the module takes room in memory. False once it is not wanted any more.
    pub(super) fn take_turn(&self, turns: &'a Turns) -> bool {
        let turn = turns.take(|| self.is_unwanted());
        let is_there = turn.is_some();
        self.turn.set(turn);
        is_there
    }

    /// Lets all other threads go before this one, if it is there for nothing but this module.
    pub(super) fn before_it_runs(&self) {
        if self.is_aside {
            give_way();
        }
    }

    /// Gives back a turn that was not needed.
    pub(super) fn give_turn_back(&self) {
        self.turn.set(None);
    }
}

/// A module could not be compiled, for a reason that is not in its bytes alone.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It took too much memory.
    #[error(
        "compiling it takes more than {max_mib} MiB of memory, for a module of {} KB: split its largest functions, or let the worker have more with {limit}",
        size.div_ceil(1024)
    )]
    Memory {
        /// Bytes of the module.
        size: usize,
        /// The limit in MiB.
        max_mib: u64,
        /// What sets the limit.
        limit: &'static str,
    },
    /// It took too long.
    #[error(
        "compiling it takes more than {} s {clock}, for a module of {} KB: split its largest functions, or let the worker take longer with --compile-timeout",
        seconds(*max),
        size.div_ceil(1024)
    )]
    Time {
        /// Bytes of the module.
        size: usize,
        /// The limit.
        max: Duration,
        /// Which time is meant.
        clock: &'static str,
    },
    /// Its code is too large.
    #[error("its compiled code has {size} bytes, and may have {max}")]
    CodeSize {
        /// Bytes of code.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The compiler was ended from outside.
    #[error("its compiler was killed by signal {signal}: the system may be out of memory. It is tried again")]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// The compiler broke.
    #[error("the compiler broke on it ({status}), which is a bug in the compiler{}", Words(words))]
    Broke {
        /// How it ended.
        status: String,
        /// What it printed last.
        words: String,
    },
    /// No compiler could be started.
    #[error("its compiler, {program}, cannot be started: {why}. It is tried again")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        why: io::Error,
    },
    /// The program that was started is no compiler, or one of another version.
    #[error("{program} is not a compiler of this version of fastworker: name the one that belongs to this version")]
    Foreign {
        /// The program.
        program: String,
    },
    /// The module is not wanted any more.
    #[error("it is not wanted any more")]
    Unwanted,
}

impl CompileError {
    /// Whether the same module may well be compiled a little later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Killed { .. } | Self::Start { .. })
    }
}

/// What a compiler printed last, for a message.
struct Words<'a>(&'a str);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Compiles a component for the engines of `runtime`. Waits for its turn first.
///
/// # Errors
/// [`ModuleError::Invalid`] if it is none, [`ModuleError::Compile`] if it cannot be compiled within bounds.
pub(super) fn compile<'a>(runtime: &'a Inner, bytes: &[u8], effort: &Effort<'a>) -> Result<Vec<u8>, ModuleError> {
    let turn = effort.turn.take().or_else(|| runtime.turns.take(|| effort.is_unwanted()));
    let turn = turn.ok_or(CompileError::Unwanted)?;
    match &runtime.config.compiler {
        Compiler::InProcess => in_process(&runtime.grounds[0].engine, bytes, effort.threads),
        Compiler::Binary(program) => {
            let engine = &runtime.grounds[0];
            let config = &runtime.config;
            let (memory_max, memory_limit) = memory(config.compile_memory_max);
            let request = Request {
                parent: std::process::id().into(),
                tight: engine.tight.into(),
                threads: effort.threads as u64,
                memory_max,
                seconds_max: config.compile_timeout.as_secs().max(1),
                size: bytes.len() as u64,
                settings: compiled::digest(&engine.engine),
            };
            let job = Job { program, request, memory_limit, bytes, config, unwanted: effort.unwanted };
            job.run(turn)
        }
    }
}

/// The memory that a compiler may have, and what sets that: a child cannot have more than this process.
fn memory(wanted: u64) -> (u64, &'static str) {
    let soft = |limit: Resource| limit.get().map_or(u64::MAX, |(soft, _hard)| soft);
    [(wanted, "--compile-memory"), (soft(Resource::AS), "`ulimit -v`"), (soft(Resource::DATA), "`ulimit -d`")]
        .into_iter()
        .min_by_key(|(bytes, _)| *bytes)
        .unwrap_or((wanted, "--compile-memory"))
}

fn in_process(engine: &Engine, bytes: &[u8], threads: usize) -> Result<Vec<u8>, ModuleError> {
    let compile = || {
        // A compiler that stumbles over a module must not take the thread along.
        panic::catch_unwind(AssertUnwindSafe(|| engine.precompile_component(bytes)))
            .unwrap_or_else(|_| Err(wasmtime::format_err!("the compiler broke on it, which is a bug in the compiler")))
            .map_err(|error| ModuleError::Invalid(format!("{error:#}")))
    };
    // wasmtime compiles on the threads of the pool that it is called in.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK)
        .thread_name(|_| "fw-load".to_owned())
        .start_handler(|_| give_way())
        .build();
    match pool {
        Ok(pool) => pool.install(compile),
        // The system has no more threads.
        Err(_) => compile(),
    }
}

/// What a compiler is told before the module: numbers of 64 bits, and what its settings must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    /// The process that asks.
    parent: u64,
    /// Whether the settings are those for little address space.
    tight: u64,
    threads: u64,
    memory_max: u64,
    seconds_max: u64,
    /// Bytes of the module, which follow.
    size: u64,
    /// Tells the settings of engines apart.
    settings: [u8; 32],
}

/// How a request begins; the number is the version.
const ASK: &[u8; 8] = b"fwask-01";
/// How an answer begins.
const ANSWER: &[u8; 8] = b"fwans-01";

impl Request {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(ASK)?;
        let Self { parent, tight, threads, memory_max, seconds_max, size, settings } = self;
        for number in [parent, tight, threads, memory_max, seconds_max, size] {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(settings)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        if bytes_of::<8>(from)? != *ASK {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut next = || Ok::<_, io::Error>(u64::from_le_bytes(bytes_of(from)?));
        let [parent, tight, threads, memory_max, seconds_max, size] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        Ok(Self { parent, tight, threads, memory_max, seconds_max, size, settings: bytes_of(from)? })
    }
}

fn bytes_of<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a compiler answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Code(Vec<u8>),
    /// Why the module cannot be compiled.
    Invalid(String),
    /// Its settings are others.
    OtherSettings,
    /// More code than anybody wants.
    TooLarge(u64),
}

impl Answer {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, content): (u64, &[u8]) = match self {
            Self::Code(code) => (0, code),
            Self::Invalid(why) => (1, why.as_bytes()),
            Self::OtherSettings => (2, &[]),
            Self::TooLarge(_) => (3, &[]),
        };
        out.write_all(ANSWER)?;
        out.write_all(&kind.to_le_bytes())?;
        out.write_all(&(content.len() as u64).to_le_bytes())?;
        out.write_all(blake3::hash(content).as_bytes())?;
        out.write_all(content)
    }

    /// Reads an answer whose code has at most `max` bytes. None if it is not whole.
    fn read(from: &mut impl Read, max: u64) -> Option<Self> {
        if bytes_of::<8>(from).ok()? != *ANSWER {
            return None;
        }
        let mut next = || Some(u64::from_le_bytes(bytes_of(from).ok()?));
        let (kind, size) = (next()?, next()?);
        let hash: [u8; 32] = bytes_of(from).ok()?;
        if size > max {
            return Some(Self::TooLarge(size));
        }
        let mut content = Vec::new();
        content.try_reserve_exact(usize::try_from(size).ok()?).ok()?;
        from.take(size).read_to_end(&mut content).ok()?;
        if content.len() as u64 != size || *blake3::hash(&content).as_bytes() != hash {
            return None;
        }
        match kind {
            0 => Some(Self::Code(content)),
            1 => Some(Self::Invalid(String::from_utf8_lossy(&content).into_owned())),
            2 => Some(Self::OtherSettings),
            _ => None,
        }
    }
}

/// One module, and the process that compiles it.
struct Job<'a> {
    program: &'a PathBuf,
    request: Request,
    /// What sets the limit on its memory.
    memory_limit: &'static str,
    bytes: &'a [u8],
    config: &'a super::RuntimeConfig,
    unwanted: &'a AtomicBool,
}

/// Why a compiler was ended by us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Overdue,
    Unwanted,
}

impl Job<'_> {
    fn run(&self, turn: Turn<'_>) -> Result<Vec<u8>, ModuleError> {
        let started = Instant::now();
        let mut child = self.start().map_err(|why| self.cannot_start(why))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else { unreachable!("all three are pipes") };
        let (done, answered) = mpsc::channel();
        let ended = thread::scope(|scope| {
            let thread = || thread::Builder::new().name("fw-compile".to_owned());
            let begun = thread().spawn_scoped(scope, || self.ask(input)).and_then(|_| {
                let words = thread().spawn_scoped(scope, move || last_words(errors))?;
                let answer = thread().spawn_scoped(scope, move || answer_of(output, &done))?;
                Ok((words, answer))
            });
            let id = Pid::from_child(&child);
            let cut = if begun.is_ok() { self.wait(&answered, started, id, turn) } else { Some(Cut::Unwanted) };
            // Only one that closed its output by itself is on its way to its end.
            let status = end(&mut child, if cut.is_some() { Duration::ZERO } else { END_MAX });
            let (words, answer) = begun?;
            Ok((words.join().unwrap_or_default(), answer.join().unwrap_or_default(), cut, status?))
        });
        let (words, answer, cut, status) = ended.map_err(|why| self.cannot_start(why))?;
        let error = match (answer, cut) {
            (Some(Answer::Code(code)), _) => return Ok(code),
            (Some(Answer::Invalid(why)), _) => return Err(ModuleError::Invalid(why)),
            (Some(Answer::TooLarge(size)), _) => CompileError::CodeSize { size, max: CODE_MAX },
            (Some(Answer::OtherSettings), _) => CompileError::Foreign { program: self.program.display().to_string() },
            (None, Some(Cut::Unwanted)) => CompileError::Unwanted,
            (None, Some(Cut::Overdue)) => self.too_long(self.wall_max(), "by the clock"),
            (None, None) => self.failure(status, words),
        };
        Err(error.into())
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(self.program)
            .arg0("fastworker")
            .arg(COMPILE_ARGUMENT)
            .env_clear()
            .current_dir("/")
            // Ctrl-C is for this process, which may be finishing what runs.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    fn cannot_start(&self, why: io::Error) -> CompileError {
        CompileError::Start { program: self.program.display().to_string(), why }
    }

    /// Sends the request and the module. A compiler that does not take them ends without an answer.
    fn ask(&self, mut input: ChildStdin) {
        let _ = self.request.write(&mut input).and_then(|()| input.write_all(self.bytes));
    }

    fn wall_max(&self) -> Duration {
        self.config.compile_timeout.saturating_mul(WALL_FACTOR)
    }

    /// Waits until the compiler has answered or closed its output. Returns why it is cut short, if it is.
    fn wait(&self, answered: &mpsc::Receiver<()>, started: Instant, compiler: Pid, mut turn: Turn<'_>) -> Option<Cut> {
        let wall_max = self.wall_max();
        let mut is_prompt = true;
        loop {
            match answered.recv_timeout(LOOK_EVERY) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.unwanted.load(Ordering::Relaxed) => return Some(Cut::Unwanted),
                Err(RecvTimeoutError::Timeout) if started.elapsed() >= wall_max => return Some(Cut::Overdue),
                Err(RecvTimeoutError::Timeout) => turn.step_aside_after(started.elapsed()),
            }
            if is_prompt && started.elapsed() >= PROMPT {
                is_prompt = false;
                // All its threads: it has a process group of its own.
                if let Err(error) = setpriority_pgrp(Some(compiler), LOADER_NICENESS) {
                    tracing::debug!(%error, "a module is compiled at the same priority as everything else");
                }
            }
        }
    }

    /// Why a compiler that was let alone ended without an answer.
    fn failure(&self, status: ExitStatus, words: String) -> CompileError {
        let is_out_of_memory =
            ["memory allocation of", "out of memory", "Cannot allocate memory"].iter().any(|it| words.contains(it));
        match status.signal() {
            _ if is_out_of_memory => {
                let (size, max_mib) = (self.bytes.len(), self.request.memory_max >> 20);
                CompileError::Memory { size, max_mib, limit: self.memory_limit }
            }
            Some(libc::SIGXCPU) => self.too_long(self.config.compile_timeout, "of processor time"),
            Some(signal @ (libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)) => {
                CompileError::Killed { signal }
            }
            // It does not know its argument: another program, or an old version.
            None if matches!(status.code(), Some(0 | child::NOT_ASKED)) => {
                CompileError::Foreign { program: self.program.display().to_string() }
            }
            _ => CompileError::Broke { status: status.to_string(), words },
        }
    }

    fn too_long(&self, max: Duration, clock: &'static str) -> CompileError {
        CompileError::Time { size: self.bytes.len(), max, clock }
    }
}

/// Waits for the end of a compiler, at most `limit`, and then ends it.
fn end(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        crate::clock::pause(Duration::from_millis(1));
    }
    // It may have ended just now.
    let _ = child.kill();
    child.wait()
}

/// Reads the answer, and tells `done` of it.
fn answer_of(mut output: ChildStdout, done: &mpsc::Sender<()>) -> Option<Answer> {
    let answer = Answer::read(&mut output, CODE_MAX);
    let _ = done.send(());
    answer
}

/// The last of what a compiler prints. Reads it all, so that it never waits for us.
fn last_words(mut errors: impl Read) -> String {
    let (mut words, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(size @ 1..) = errors.read(&mut block) {
        words.extend_from_slice(&block[..size]);
        let over = words.len().saturating_sub(WORDS_MAX);
        words.drain(..over);
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let settings = [7; 32];
        Request { parent: 1, tight: 0, threads: 2, memory_max: 3, seconds_max: 4, size: 5, settings }
    }

    #[test]
    fn requests_and_answers_arrive_as_they_were_written() {
        let mut pipe = Vec::new();
        request().write(&mut pipe).expect("room");
        assert_eq!(Request::read(&mut &pipe[..]).ok(), Some(request()));
        for answer in [Answer::Code(vec![1, 2, 3]), Answer::Invalid("no".into()), Answer::OtherSettings] {
            let mut pipe = Vec::new();
            answer.write(&mut pipe).expect("room");
            assert_eq!(Answer::read(&mut &pipe[..], 100), Some(answer));
        }
    }

    #[test]
    fn an_answer_that_is_cut_changed_or_too_large_is_no_code() {
        let mut pipe = Vec::new();
        Answer::Code(vec![1; 50]).write(&mut pipe).expect("room");
        assert_eq!(Answer::read(&mut &pipe[..], 49), Some(Answer::TooLarge(50)));
        assert_eq!(Answer::read(&mut &pipe[..pipe.len() - 1], 100), None);
        *pipe.last_mut().expect("bytes") ^= 1;
        assert_eq!(Answer::read(&mut &pipe[..], 100), None);
        assert_eq!(Answer::read(&mut &b"Usage: something else entirely"[..], 100), None);
        // A length that nobody could hold is refused before there is room for it.
        let huge = [&ANSWER[..], &0_u64.to_le_bytes(), &u64::MAX.to_le_bytes(), &[0; 32]].concat();
        assert_eq!(Answer::read(&mut &huge[..], CODE_MAX), Some(Answer::TooLarge(u64::MAX)));
    }

    #[test]
    fn of_what_a_compiler_prints_the_last_words_are_kept() {
        let text = "x".repeat(10 * WORDS_MAX) + "memory allocation of 5 bytes failed\n";
        let words = last_words(text.as_bytes());
        assert!(words.ends_with("memory allocation of 5 bytes failed") && words.len() <= WORDS_MAX);
    }
}
