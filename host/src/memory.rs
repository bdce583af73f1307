//! What the allocator gives back to the system.
//!
//! Separate module because it asks the C library, which takes `unsafe`. glibc learns from large
//! blocks: once one of 16 MiB has been freed, it keeps blocks of that size for itself, in each
//! thread's arena. A worker that has carried one large result per slot would hold on to it for good.
//! Small blocks stay as well: after a million tasks the process would keep all that they took.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{
        fs, thread,
        time::{Duration, Instant},
    };

    /// Blocks from this size on are the system's own and go back to it at once. Frames are smaller.
    const LARGE: i32 = 1 << 20;
    /// Minimum of free memory that is worth being returned, in bytes.
    const FREE_MIN: usize = 64 * 1024 * 1024;
    /// Minimum delay between two looks at the heap.
    const EVERY: Duration = Duration::from_secs(3);
    /// A look takes at most one part in this many of the time, as allocating threads may wait for it.
    const LOOK_SHARE: u32 = 1_000;

    /// Arenas of the allocator where address space is limited.
    const ARENAS_WHERE_LIMITED: i32 = 2;

    pub(super) fn spare_address_space() {
        if !crate::system::has_limited_address_space() {
            return;
        }
        #[allow(unsafe_code, reason = "a setting of the allocator; mallopt is safe to call at any time")]
        // SAFETY: `mallopt` takes two numbers and locks what it changes.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_WHERE_LIMITED) == 1 };
        if !set {
            tracing::debug!("the allocator keeps its own number of arenas");
        }
    }

    pub(super) fn give_large_blocks_back() {
        #[allow(unsafe_code, reason = "two settings of the allocator; mallopt is safe to call at any time")]
        // SAFETY: `mallopt` takes two numbers and locks what it changes.
        let set = unsafe {
            // Setting either ends the learning.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) == 1 && libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE) == 1
        };
        if !set {
            tracing::debug!("the allocator keeps its own settings");
        }
    }

    pub(super) fn give_free_memory_back() {
        let trim = || {
            let (mut kept, mut wait) = (0, EVERY);
            loop {
                thread::park_timeout(wait);
                let begun = Instant::now();
                let free = resident_and_free();
                wait = EVERY.max(begun.elapsed().saturating_mul(LOOK_SHARE));
                kept = free.min(kept);
                if free > kept + FREE_MIN {
                    kept = trim(free);
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("fw-memory".into()).spawn(trim) {
            let error = crate::system::explain(&error);
            tracing::warn!(error, "no thread to return free memory to the system: it stays with this process");
        }
    }

    /// Returns what is free to the system. Gives what it could not return.
    fn trim(free: usize) -> usize {
        let begun = Instant::now();
        #[allow(unsafe_code, reason = "asks the allocator; malloc_trim is safe to call at any time")]
        // SAFETY: `malloc_trim` takes a number and locks what it changes.
        unsafe {
            libc::malloc_trim(0);
        }
        let took = begun.elapsed();
        let kept = resident_and_free();
        tracing::debug!(free, kept, ?took, "returned free memory to the system");
        kept
    }

    /// How much of the memory of this process is free and not returned yet, in bytes, at most. The heap
    /// counts what was returned as free, and not all that is resident is the heap's.
    fn resident_and_free() -> usize {
        let Some(resident) = resident().filter(|resident| *resident > FREE_MIN) else { return 0 };
        #[allow(unsafe_code, reason = "asks the allocator; mallinfo2 is safe to call at any time")]
        // SAFETY: `mallinfo2` takes nothing and locks what it reads.
        let heap = unsafe { libc::mallinfo2() };
        heap.fordblks.min(resident.saturating_sub(heap.uordblks + heap.hblkhd))
    }

    /// The memory that this process takes, in bytes.
    fn resident() -> Option<usize> {
        let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        #[allow(unsafe_code, reason = "asks the C library for a constant")]
        // SAFETY: `sysconf` takes a number and reads a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        pages.checked_mul(usize::try_from(page).ok()?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn small_blocks_that_were_freed_go_back_to_the_system() {
            const SIZE: usize = 1_000;
            // The last one stays, so that the heap cannot just end earlier.
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

/// Keeps the allocator from reserving 64 MiB for each thread where address space is limited
/// (`ulimit -v`). Call it once, before there are other threads.
pub fn spare_address_space() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::spare_address_space();
}

/// Keeps large blocks from staying with the process once they are freed. Call it once, at the start.
pub fn give_large_blocks_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_large_blocks_back();
}

/// From now on, returns memory to the system once much of it is free: after a burst, within seconds.
/// On a thread of its own. Call it once, at the start of a server.
pub fn give_free_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_free_memory_back();
}
