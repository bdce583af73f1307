//! Names the system limits of this process in errors, and checks them.
//!
//! An error number alone does not show which limit was reached, its value and how to raise it. The checks at startup
//! are for limits at which third-party code panics, aborts or hangs (tokio's signal handling without file descriptors,
//! NNG's start without threads).

#![cfg_attr(not(feature = "runtime"), allow(dead_code, reason = "the light client checks fewer limits"))]

use std::{
    fs::{self, File},
    io,
    sync::{
        Arc, Condvar, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rlimit::Resource;

use crate::{
    clock::{Moment, Now},
    lock::lock,
};

/// Minimum interval between two log lines about the same limit.
const REPEAT_INTERVAL: Duration = Duration::from_mins(1);
/// Stack size of a thread of the C library when the limit is "unlimited".
const STACK_WITHOUT_LIMIT: usize = 2 << 20;
/// Minimum stack size of a checked thread.
const STACK_MIN: usize = 64 << 10;

/// Formats a system error, with the limit that caused it, if one did.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => format!("{error}: {}", fd_limit()),
        Some(libc::ENFILE) => {
            format!("{error}: the whole machine is out of file descriptors: raise the sysctl fs.file-max")
        }
        Some(libc::ENOMEM) => format!("{error}: {}", memory_limits()),
        Some(libc::EAGAIN) => format!("{error}: {}", thread_limits()),
        _ => error.to_string(),
    }
}

/// Describes the limit on open files.
pub(crate) fn fd_limit() -> String {
    let limit = shown(Resource::NOFILE, |limit| limit.to_string());
    format!("RLIMIT_NOFILE (ulimit -n) is {limit}: raise it, with systemd by LimitNOFILE=")
}

/// Describes the limits on memory that are set.
pub(crate) fn memory_limits() -> String {
    let mut set = Vec::new();
    let named = [
        (Resource::AS, "RLIMIT_AS (ulimit -v)", "LimitAS="),
        (Resource::DATA, "RLIMIT_DATA (ulimit -d)", "LimitDATA="),
    ];
    for (resource, name, unit) in named {
        if let Some(limit) = limit_of(resource) {
            set.push(format!("{name} is {}: raise it, with systemd by {unit}", bytes(limit)));
        }
    }
    if set.is_empty() {
        return "no limit of this process is set: the machine or its container is out of memory, or the sysctls \
                vm.overcommit_memory and vm.max_map_count allow no more"
            .to_owned();
    }
    if let Some(used) = address_space_used() {
        set.push(format!("this process uses {} of address space", bytes(used)));
    }
    set.join("; ")
}

/// Describes the limits on threads.
pub(crate) fn thread_limits() -> String {
    let processes = shown(Resource::NPROC, |limit| limit.to_string());
    let container = pids_max().map(|limit| format!("; its container allows {limit} threads (pids.max)"));
    let space = limit_of(Resource::AS)
        .map(|limit| format!("; RLIMIT_AS (ulimit -v) is {}, and each thread needs address space", bytes(limit)));
    format!(
        "RLIMIT_NPROC (ulimit -u), which counts all threads of this user, is {processes}: raise it, with systemd by \
         LimitNPROC= and TasksMax={}{}",
        container.unwrap_or_default(),
        space.unwrap_or_default()
    )
}

/// Maximum number of threads of this process's container, if that is limited.
fn pids_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let paths = [format!("/sys/fs/cgroup{group}/pids.max"), "/sys/fs/cgroup/pids.max".to_owned()];
    paths.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

fn limit_of(resource: Resource) -> Option<u64> {
    resource.get().ok().map(|(soft, _hard)| soft).filter(|limit| *limit != rlimit::INFINITY)
}

fn shown(resource: Resource, show: impl Fn(u64) -> String) -> String {
    limit_of(resource).map_or_else(|| "unlimited".to_owned(), show)
}

/// Maximum address space of this process in bytes, if that is limited.
pub(crate) fn address_space_max() -> Option<u64> {
    limit_of(Resource::AS)
}

/// Whether address space was limited at the first call.
pub(crate) fn has_limited_address_space() -> bool {
    static LIMITED: LazyLock<bool> =
        LazyLock::new(|| limit_of(Resource::AS).is_some() || limit_of(Resource::DATA).is_some());
    *LIMITED
}

fn address_space_used() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmSize:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Formats a number of bytes.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| count >= *unit) else {
        return format!("{count} bytes");
    };
    let tenths = count % unit * 10 / unit;
    if tenths == 0 { format!("{} {name}", count / unit) } else { format!("{}.{tenths} {name}", count / unit) }
}

/// Reserves address space without using it. `None` if not enough is free.
pub(crate) fn reserve(bytes: usize) -> Option<Vec<u8>> {
    let mut reserved = Vec::new();
    reserved.try_reserve_exact(bytes).ok()?;
    Some(reserved)
}

/// Checks that `count` more files can be opened at the same time.
///
/// # Errors
/// The system's error, with [`fd_limit`] in its text.
pub(crate) fn check_free_fds(count: usize) -> io::Result<()> {
    let mut open = Vec::new();
    for _ in 0..count {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) if is_out_of_fds(&error) => {
                let remaining = open.len();
                drop(open);
                let text = format!("only {remaining} more files can be opened, and {count} are needed: {}", fd_limit());
                return Err(io::Error::other(text));
            }
            // The device may be missing, which is not about the limit.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn is_out_of_fds(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Checks that `count` more threads can run at the same time, with the C library's stack size.
///
/// # Errors
/// The system's error, with [`thread_limits`] in its text.
pub(crate) fn check_threads(count: usize) -> io::Result<()> {
    let stack = limit_of(Resource::STACK).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(STACK_WITHOUT_LIMIT);
    let release = Arc::new((Mutex::new(false), Condvar::new()));
    let mut running = Vec::with_capacity(count);
    let mut refused = None;
    for _ in 0..count {
        let release = Arc::clone(&release);
        let wait = move || {
            let (flag, changed) = &*release;
            let mut is_released = lock(flag);
            while !*is_released {
                is_released = changed.wait(is_released).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        };
        match thread::Builder::new().stack_size(stack.max(STACK_MIN)).spawn(wait) {
            Ok(thread) => running.push(thread),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let started = running.len();
    *lock(&release.0) = true;
    release.1.notify_all();
    for thread in running {
        drop(thread.join());
    }
    match refused {
        None => Ok(()),
        Some(error) => {
            Err(io::Error::other(format!("only {started} of {count} threads could be started: {}", explain(&error))))
        }
    }
}

/// Limits a log line to one a minute.
#[derive(Debug)]
pub(crate) struct LogRateLimit(AtomicU64);

impl LogRateLimit {
    /// Allows the first line immediately.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns whether to log now; if so, not again within a minute.
    pub(crate) fn should_log(&self) -> bool {
        let now = Now::read().mono;
        let next = self.0.load(Ordering::Relaxed);
        let after = (now + REPEAT_INTERVAL).micros();
        next <= now.micros() && self.0.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Interval at which a server checks for free file descriptors.
pub(crate) const FD_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Logs when the process is out of file descriptors. The transport does not report that: it leaves new connections
/// waiting.
#[derive(Debug, Default)]
pub(crate) struct FdMonitor {
    /// When it was last logged, while there are none.
    logged: Option<Moment>,
}

impl FdMonitor {
    /// Checks once, and logs a change; repeats the warning after a minute.
    pub(crate) fn check(&mut self) {
        let error_if_none = File::open("/dev/null").err().filter(is_out_of_fds);
        let now = Now::read().mono;
        match (error_if_none, self.logged) {
            (Some(error), logged) if logged.is_none_or(|at| now.since(at) >= REPEAT_INTERVAL) => {
                self.logged = Some(now);
                tracing::warn!("out of file descriptors, so new connections wait: {}", explain(&error));
            }
            (None, Some(_)) => {
                self.logged = None;
                tracing::info!("file descriptors are free again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_limit_that_caused_it() {
        let named = |number: i32| explain(&io::Error::from_raw_os_error(number));
        assert!(named(libc::EMFILE).contains("RLIMIT_NOFILE (ulimit -n) is "), "{}", named(libc::EMFILE));
        assert!(named(libc::EAGAIN).contains("RLIMIT_NPROC (ulimit -u)"), "{}", named(libc::EAGAIN));
        assert!(named(libc::ENOMEM).len() > io::Error::from_raw_os_error(libc::ENOMEM).to_string().len());
        assert_eq!(named(libc::EPERM), io::Error::from_raw_os_error(libc::EPERM).to_string());
    }

    #[test]
    fn available_resources_pass_the_checks() {
        assert!(check_free_fds(8).is_ok() && check_threads(4).is_ok());
        assert!(reserve(1 << 20).is_some() && reserve(usize::MAX).is_none());
    }

    #[test]
    fn a_line_is_logged_once_a_minute() {
        let limit = LogRateLimit::new();
        assert!(limit.should_log() && !limit.should_log());
    }

    #[test]
    fn bytes_are_formatted_with_units() {
        let written = [(1 << 30, "1 GiB"), (1_610_612_736, "1.5 GiB"), (800, "800 bytes"), (200 << 20, "200 MiB")];
        for (count, text) in written {
            assert_eq!(bytes(count), text);
        }
    }
}
