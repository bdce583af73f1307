//! Returns free memory to the system.
//!
//! Separate module because it calls the C library, which takes `unsafe`. glibc adapts to large blocks: once a block of
//! 16 MiB has been freed, it keeps blocks of that size in each thread's arena. A worker that has handled one large
//! result per slot would keep that memory forever. Small blocks are kept as well: after a million tasks the process
//! would keep all the memory that they used.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{
        fs, thread,
        time::{Duration, Instant},
    };

    /// Size from which a block is mapped separately, and returned to the system immediately. Most frames are smaller.
    const LARGE: i32 = 1 << 20;
    /// Minimum free memory that is returned, in bytes.
    const FREE_MIN: usize = 64 * 1024 * 1024;
    /// Minimum interval between two checks of the heap.
    const INTERVAL_MIN: Duration = Duration::from_secs(3);
    /// A check takes at most one part in this many of the time, as allocating threads may wait for it.
    const CHECK_SHARE: u32 = 1_000;

    /// Number of the allocator's arenas when address space is limited.
    const LIMITED_ARENAS: i32 = 2;

    pub(super) fn limit_malloc_arenas() {
        if !crate::system::has_limited_address_space() {
            return;
        }
        #[allow(unsafe_code, reason = "a setting of the allocator; mallopt is safe to call at any time")]
        // SAFETY: `mallopt` takes two numbers and locks what it changes.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, LIMITED_ARENAS) == 1 };
        if !set {
            tracing::debug!("cannot limit the number of malloc arenas");
        }
    }

    pub(super) fn configure_malloc_thresholds() {
        #[allow(unsafe_code, reason = "two settings of the allocator; mallopt is safe to call at any time")]
        // SAFETY: `mallopt` takes two numbers and locks what it changes.
        let set = unsafe {
            // Setting either disables the adaptation.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) == 1 && libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE) == 1
        };
        if !set {
            tracing::debug!("cannot set the malloc thresholds");
        }
    }

    pub(super) fn start_malloc_trim_thread() {
        let trim = || {
            let (mut kept, mut wait) = (0, INTERVAL_MIN);
            loop {
                thread::park_timeout(wait);
                let started = Instant::now();
                let free = resident_and_free();
                wait = INTERVAL_MIN.max(started.elapsed().saturating_mul(CHECK_SHARE));
                kept = free.min(kept);
                if free > kept + FREE_MIN {
                    kept = trim(free);
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("fw-memory".into()).spawn(trim) {
            let error = crate::system::explain(&error);
            tracing::warn!(
                error,
                "cannot start a thread to return free memory to the system: it stays with this process"
            );
        }
    }

    /// Returns free memory to the system. Returns the number of bytes that stay.
    fn trim(free: usize) -> usize {
        let started = Instant::now();
        #[allow(unsafe_code, reason = "trims the heap; malloc_trim is safe to call at any time")]
        // SAFETY: `malloc_trim` takes a number and locks what it changes.
        unsafe {
            libc::malloc_trim(0);
        }
        let took = started.elapsed();
        let kept = resident_and_free();
        tracing::debug!(free, kept, ?took, "returned free memory to the system");
        kept
    }

    /// Maximum bytes of this process that are free and not returned yet. An estimate: the heap counts returned memory
    /// as free, and not all resident memory is the heap's.
    fn resident_and_free() -> usize {
        let Some(resident) = resident().filter(|resident| *resident > FREE_MIN) else { return 0 };
        #[allow(unsafe_code, reason = "reads heap statistics; mallinfo2 is safe to call at any time")]
        // SAFETY: `mallinfo2` takes nothing and locks what it reads.
        let heap = unsafe { libc::mallinfo2() };
        heap.fordblks.min(resident.saturating_sub(heap.uordblks + heap.hblkhd))
    }

    /// Resident memory of this process, in bytes.
    fn resident() -> Option<usize> {
        let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        #[allow(unsafe_code, reason = "reads a constant of the C library")]
        // SAFETY: `sysconf` takes a number and reads a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        pages.checked_mul(usize::try_from(page).ok()?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn freed_small_blocks_are_returned_to_the_system() {
            const SIZE: usize = 1_000;
            // The last block stays, so that the heap cannot simply shrink.
            let mut blocks: Vec<Option<Vec<u8>>> = (0..400_000).map(|_| Some(vec![1; SIZE])).collect();
            let last = blocks.pop();
            drop(std::mem::take(&mut blocks));
            let free = resident_and_free();
            assert!(free > 2 * FREE_MIN, "only {free} bytes are free");
            assert!(trim(free) < free - FREE_MIN);
            drop(last);
        }
    }
}

/// Keeps the allocator from reserving 64 MiB for each thread if address space is limited (`ulimit -v`). Call it once,
/// before other threads start.
pub fn limit_malloc_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::limit_malloc_arenas();
}

/// Makes the allocator return large blocks to the system once they are freed. Call it once, at startup.
pub fn configure_malloc_thresholds() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::configure_malloc_thresholds();
}

/// Starts a thread that returns memory to the system once much of it is free: within seconds after a burst. Call it
/// once, when a server starts.
pub fn start_malloc_trim_thread() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::start_malloc_trim_thread();
}
