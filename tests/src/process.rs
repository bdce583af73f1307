//! A started process, killed when dropped.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        LazyLock, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use crate::{TIMEOUT, eventually};

/// A running `fastworker`.
#[derive(Debug)]
pub struct Process {
    /// Its name in messages.
    pub name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a command. Its stderr is written to a file in `directory`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Self {
        let log = (0..1_000_000)
            .map(|number| directory.join(format!("{name}.{number}.log")))
            .find(|path| !path.exists())
            .expect("a test starts fewer processes");
        let stderr = File::create(&log).expect("file created");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = spawn(command);
        let lines = read_lines(child.stdout.take().expect("stdout is a pipe"));
        Self { name: name.to_owned(), child, lines, log }
    }

    /// Waits until it is ready, and returns the line it printed.
    ///
    /// # Panics
    /// When it ends before, or prints nothing for a minute.
    pub fn wait_until_ready(&mut self) -> String {
        self.wait_until("ready")
    }

    /// Waits until its modules are loaded or refused, and returns the line it printed.
    ///
    /// # Panics
    /// As [`Process::wait_until_ready`], after which it is called.
    pub fn wait_until_loaded(&mut self) -> String {
        // Compiling modules takes some time when the cache is empty.
        self.wait_until("loaded")
    }

    fn wait_until(&mut self, event: &str) -> String {
        match self.lines.recv_timeout(Duration::from_mins(1)) {
            Ok(line) => {
                assert!(
                    line.contains(&format!(r#""event":"{event}""#)),
                    "{} printed {line} instead of {event}",
                    self.name
                );
                line
            }
            Err(error) => panic!("{} is not {event} ({error}):\n{}", self.name, self.log()),
        }
    }

    /// The next line that it prints, if it prints one within `limit`.
    pub fn line(&mut self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its stderr so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("child status available").is_none()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Kills it: SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("child waited for");
    }

    /// Pauses it until [`Process::resume`]: SIGSTOP.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes it: SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends several signals one right after another, as `["TERM", "HUP"]`.
    pub fn signals(&self, names: &[&str]) {
        let each = "id=$1; shift; for name; do kill -s $name $id; done";
        let sent = Command::new("sh").args(["-c", each, "sh", &self.id().to_string()]).args(names).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "cannot send {names:?} to {}", self.name);
    }

    fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, limit, || self.child.try_wait().expect("child waited for"))
    }

    /// Terminates it, and waits for its end.
    ///
    /// # Panics
    /// When it fails or takes too long.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait_for_exit(TIMEOUT);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Its anonymous resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kilobytes.expect("RssAnon of a running process") * 1024
    }

    /// Number of its open files and sockets.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }
}

/// A process whose output is not captured, killed when dropped.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    /// Starts a command as it is.
    pub fn start(command: Command) -> Self {
        Self(spawn(command))
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("child status available").is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            print_log(&self.name, &self.log());
        }
    }
}

#[allow(clippy::print_stderr, reason = "the test's own output, shown when it fails")]
fn print_log(name: &str, log: &str) {
    eprintln!("--- {name} ---\n{log}");
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Sends a signal to a process.
pub(crate) fn signal(id: u32, name: &str) {
    // The shell's own `kill`, which is everywhere.
    let sent = Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &id.to_string()]).status();
    assert!(sent.is_ok_and(|sent| sent.success()), "cannot send SIG{name} to {id}");
}

/// Creates a command that ends with the test run, even if that is killed, and inherits no variables for fastworker.
pub fn command(program: &Path) -> Command {
    static HAS_SETPRIV: LazyLock<bool> =
        LazyLock::new(|| Command::new("setpriv").arg("--version").output().is_ok_and(|ran| ran.status.success()));
    let mut command = if *HAS_SETPRIV {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("FASTWORKER_") || name == "NO_COLOR" || name == "COLUMNS" {
            command.env_remove(name);
        }
    }
    command
}

/// Starts a command on a thread that lives as long as this process: `setpriv --pdeathsig` kills a child when the thread
/// that started it ends.
pub(crate) fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let program = command.get_program().display().to_string();
    let (reply, child) = mpsc::channel();
    let orders = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    orders.send((command, reply)).expect("the spawner does not end");
    drop(orders);
    let child = child.recv().expect("reply of the spawner");
    child.unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}
