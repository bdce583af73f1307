//! What the allocator gives back to the system.
//!
//! Apart because it asks the C library, which takes `unsafe`. glibc learns from large blocks: once
//! one of 16 MiB has been freed, it keeps blocks of that size for itself, in each thread's arena. A
//! worker that has carried one large result per slot would hold on to it for good.

/// Blocks from this size on are the system's own and go back to it at once. Frames are smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Arenas of the allocator where address space is limited.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_WHERE_LIMITED: i32 = 2;

/// Keeps the allocator from reserving 64 MiB for each thread where address space is limited
/// (`ulimit -v`). Call it once, before there are other threads.
pub fn spare_address_space() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if crate::system::has_limited_address_space() {
        #[allow(unsafe_code, reason = "a setting of the allocator; mallopt is safe to call at any time")]
        // SAFETY: `mallopt` takes two numbers and locks what it changes.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_WHERE_LIMITED) == 1 };
        if !set {
            tracing::debug!("the allocator keeps its own number of arenas");
        }
    }
}

/// Keeps large blocks from staying with the process once they are freed. Call it once, at the start.
pub fn give_large_blocks_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
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
}
