//! How wasmtime is set up.
//!
//! Apart because every number here trades memory, address space and speed. Two engines with the
//! same compiler settings share one compiled code: the pooling one keeps memories, tables and
//! stacks mapped from attempt to attempt, the on-demand one takes the components that do not fit
//! into the pool.
//!
//! Invariant: the pool reserves address space, not memory. Where address space is limited
//! (`ulimit -v`) there is no pool, and memories are reserved small and move when they grow.

use std::{num::NonZeroUsize, sync::LazyLock};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::Linker,
};

use super::{
    LOADS_MAX, RuntimeConfig,
    call::{Attempt, Calling, Prepared},
    compiled::{self, Cache},
    host_calls,
    limits::INSTANCES_MAX,
    wasi,
};
use crate::system;

/// Bytes of stack that a guest may use; the slot's thread has at least twice as much.
const WASM_STACK: usize = 1 << 20;
/// Bytes of a stack on which a guest runs that waits.
const ASYNC_STACK: usize = 2 << 20;
/// Frames of a backtrace that are kept: enough to tell a recursion from a call.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not zero");
/// Address space for one memory: all that a 32-bit guest can address, so that no access needs a
/// bounds check.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Unmapped bytes after each memory, for accesses at a constant offset.
const MEMORY_GUARD: u64 = 32 << 20;
/// Bytes of a memory that stay resident from attempt to attempt.
const MEMORY_KEPT: usize = 2 << 20;
/// Bytes of a table that stay resident from attempt to attempt.
const TABLE_KEPT: usize = 128 << 10;
/// Elements that a table in the pool may have.
const TABLE_ELEMENTS: usize = 100_000;
/// Tables that a component in the pool may have.
const TABLES: usize = 32;
/// Memories that a component in the pool may have: composed ones have more, and are rare.
const MEMORIES: usize = 1;
/// Bytes of bookkeeping that an instance in the pool may need.
const INSTANCE_SIZE: usize = 16 << 20;
/// Room is reserved for at least so many attempts at once, so that a worker can grow.
const SLOTS_MIN: usize = 16;

/// Whether there are threads to compile on: the pool of threads that wasmtime uses panics without them.
static THREADS_TO_COMPILE: LazyLock<bool> = LazyLock::new(|| {
    let checked = system::check_threads(std::thread::available_parallelism().map_or(1, usize::from));
    if let Err(error) = &checked {
        tracing::warn!(%error, "modules are compiled on one thread");
    }
    checked.is_ok()
});

/// An engine, and what modules can import on it.
pub(super) struct Ground {
    pub(super) engine: Engine,
    /// What `inspect` shows.
    pub(super) name: &'static str,
    /// Whether it is set up for little address space.
    pub(super) tight: bool,
    plain: Linker<Attempt>,
    waiting: Linker<Attempt>,
}

impl Ground {
    fn new(engine: Engine, name: &'static str, tight: bool) -> wasmtime::Result<Self> {
        let (mut plain, mut waiting) = (Linker::new(&engine), Linker::new(&engine));
        wasi::add_to_linker_sync(&mut plain)?;
        wasi::add_to_linker_async(&mut waiting)?;
        host_calls::add_to_linker(&mut plain)?;
        host_calls::add_to_linker(&mut waiting)?;
        Ok(Self { engine, name, tight, plain, waiting })
    }

    /// What a module can import that is called so.
    pub(super) fn linker(&self, calling: Calling) -> &Linker<Attempt> {
        match calling {
            Calling::Plain | Calling::Entered => &self.plain,
            Calling::Waiting => &self.waiting,
        }
    }
}

/// The engines to try for a component, the better one first.
pub(super) struct Grounds {
    pub(super) engines: Vec<Ground>,
    /// How many attempts can run at once: as many as the pool has room for.
    pub(super) slots_max: usize,
    /// What sets up the same sandboxes as the first engine.
    settings: Config,
}

impl Grounds {
    /// Sets up the engines: with a pool for as many slots as there is address space for.
    pub(super) fn new(config: &RuntimeConfig) -> wasmtime::Result<Self> {
        let wanted = config.slots.max(SLOTS_MIN);
        match pooling(config, wanted).or_else(|_| pooling(config, config.slots)) {
            Ok((pooling, slots_max)) => {
                let on_demand = Engine::new(&roomy())?;
                let engines =
                    vec![Ground::new(pooling, "pooling", false)?, Ground::new(on_demand, "on-demand", false)?];
                Ok(Self { engines, slots_max, settings: roomy() })
            }
            Err(why) => {
                tracing::warn!(why, "no pool of instances: attempts start slower");
                let engines = vec![Ground::new(Engine::new(&tight())?, "on-demand", true)?];
                Ok(Self { engines, slots_max: wanted, settings: tight() })
            }
        }
    }

    /// The smallest sandbox with a memory on each engine, to try whether there is room for it.
    pub(super) fn trials(&self) -> wasmtime::Result<Vec<Prepared>> {
        let code = Cache::compile_here(&self.settings, &TRIAL)?;
        let prepare = |ground: &Ground| {
            let component = compiled::instantiable(&ground.engine, &code)?;
            // On a stack of its own, which takes room as well.
            let calling = Calling::Waiting;
            Ok(Prepared { pre: ground.linker(calling).instantiate_pre(&component)?, calling })
        };
        self.engines.iter().map(prepare).collect()
    }
}

/// `(component (core module (memory 1)) (core instance (instantiate 0)))`
const TRIAL: [u8; 29] = *b"\0asm\x0d\0\x01\0\x01\x0d\0asm\x01\0\0\0\x05\x03\x01\0\x01\x02\x04\x01\0\0\0";

/// The engine with a pool for so many slots, or why there is none.
fn pooling(config: &RuntimeConfig, slots: usize) -> Result<(Engine, usize), String> {
    let places = slots + LOADS_MAX;
    let needed = (MEMORY_RESERVATION + MEMORY_GUARD).saturating_mul((places * MEMORIES) as u64);
    // On-demand memories, code and everything else want their share.
    let needed = needed.saturating_mul(2);
    if let Some(allowed) = system::address_space_max().filter(|allowed| *allowed < needed) {
        let (needed, allowed) = (system::bytes(needed), system::bytes(allowed));
        return Err(format!(
            "{slots} slots need {needed} of address space, and RLIMIT_AS (ulimit -v) is {allowed}: raise it, or lower \
             --concurrency"
        ));
    }
    let mut settings = roomy();
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(places, config.memory_max)));
    let engine = Engine::new(&settings).map_err(|error| format!("{error:#}: {}", system::memory()))?;
    Ok((engine, slots))
}

fn pool(slots: usize, memory_max: usize) -> PoolingAllocationConfig {
    let total = |each: usize| u32::try_from(slots.saturating_mul(each)).unwrap_or(u32::MAX);
    let each = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(total(2))
        .total_core_instances(total(INSTANCES_MAX))
        .total_memories(total(MEMORIES))
        .total_tables(total(TABLES))
        .total_stacks(total(1))
        .max_core_instances_per_component(each(INSTANCES_MAX))
        .max_memories_per_component(each(MEMORIES))
        .max_memories_per_module(each(MEMORIES))
        .max_tables_per_component(each(TABLES))
        .max_tables_per_module(each(TABLES))
        .max_component_instance_size(INSTANCE_SIZE)
        .max_core_instance_size(INSTANCE_SIZE)
        .max_memory_size(memory_max.min(usize::try_from(MEMORY_RESERVATION).unwrap_or(usize::MAX)))
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_KEPT)
        .table_keep_resident(TABLE_KEPT)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Settings for machines with address space to spare.
pub(super) fn roomy() -> Config {
    let mut settings = common();
    settings.memory_reservation(MEMORY_RESERVATION).memory_guard_size(MEMORY_GUARD);
    settings
}

/// Settings for processes whose address space is limited.
pub(super) fn tight() -> Config {
    let mut settings = common();
    settings
        .memory_reservation(64 << 20)
        // Each move copies the memory: few large steps.
        .memory_reservation_for_growth(128 << 20)
        .memory_guard_size(64 << 10)
        .guard_before_linear_memory(false);
    settings
}

fn common() -> Config {
    let mut settings = Config::new();
    settings
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        .parallel_compilation(*THREADS_TO_COMPILE)
        // Names are enough for people; offsets would only make code larger.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_that_is_tried_is_what_it_is_said_to_be() {
        let text = "(component (core module (memory 1)) (core instance (instantiate 0)))";
        assert_eq!(wat::parse_str(text).expect("a component"), TRIAL);
    }
}
