//! The configuration of wasmtime.
//!
//! Two engines with the same compiler settings share compiled code: the pooling one keeps memories, tables and stacks
//! mapped from attempt to attempt, the on-demand one runs the components that do not fit into the pool. A third runs
//! the few components that use async types, which would make all others slower. Every number
//! here trades off memory, address space and speed.
//!
//! Invariant: the pool reserves address space, not memory. If address space is limited (`ulimit -v`) there is no pool,
//! and memories start with a small reservation and move when they grow.

use std::{num::NonZeroUsize, sync::LazyLock};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::Linker,
};

use super::{
    LOADS_MAX, RuntimeConfig, attempt::Attempt, call::CallMode, host_calls, limits::INSTANCES_MAX, program, wasi,
};
use crate::system;

/// Stack for what the host does in an async call, below the guest's own, in bytes.
const HOST_STACK: usize = 1 << 20;
/// Maximum frames of a backtrace: enough to detect a recursion.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not zero");
/// Address space of one memory: all that a 32-bit guest can address, so that no access needs a
/// bounds check.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Unmapped bytes after each memory, for accesses at a constant offset.
const MEMORY_GUARD: u64 = 32 << 20;
/// Bytes of a memory that stay resident from attempt to attempt.
const MEMORY_KEPT: usize = 2 << 20;
/// Bytes of a table that stay resident from attempt to attempt.
const TABLE_KEPT: usize = 128 << 10;
/// Maximum elements of a table in the pool.
const TABLE_ELEMENTS: usize = 100_000;
/// Maximum tables of a component in the pool.
const TABLES: usize = 32;
/// Maximum memories of a component in the pool: composed components have more, and are rare.
const MEMORIES: usize = 1;
/// Maximum size of an instance's own data in the pool, in bytes.
const INSTANCE_SIZE: usize = 16 << 20;
/// Minimum slots in the pool, so that a worker can grow.
const SLOTS_MIN: usize = 16;

/// Whether threads can be started for compiling: without them, the thread pool that wasmtime uses panics.
static CAN_COMPILE_IN_PARALLEL: LazyLock<bool> = LazyLock::new(|| {
    let checked = system::check_threads(std::thread::available_parallelism().map_or(1, usize::from));
    if let Err(error) = &checked {
        tracing::warn!(%error, "modules are compiled on one thread");
    }
    checked.is_ok()
});

/// An engine, and the imports of its modules.
pub(super) struct EngineProfile {
    pub(super) engine: Engine,
    /// The name that `fastworker list` shows.
    pub(super) name: &'static str,
    /// Whether it has the settings for limited address space.
    pub(super) is_constrained: bool,
    sync_linker: Linker<Attempt>,
    async_linker: Linker<Attempt>,
    /// The imports of core modules.
    pub(super) core_linker: wasmtime::Linker<Attempt>,
}

impl EngineProfile {
    fn new(engine: Engine, name: &'static str, is_constrained: bool) -> wasmtime::Result<Self> {
        let (mut sync_linker, mut async_linker) = (Linker::new(&engine), Linker::new(&engine));
        wasi::add_to_linker_sync(&mut sync_linker)?;
        wasi::add_to_linker_async(&mut async_linker)?;
        host_calls::add_to_linker(&mut sync_linker)?;
        host_calls::add_to_linker(&mut async_linker)?;
        let core_linker = program::core_linker(&engine)?;
        Ok(Self { engine, name, is_constrained, sync_linker, async_linker, core_linker })
    }

    /// The imports for modules that are called in this mode.
    pub(super) fn linker(&self, mode: CallMode) -> &Linker<Attempt> {
        match mode {
            CallMode::Sync | CallMode::SyncInRuntime => &self.sync_linker,
            CallMode::Async => &self.async_linker,
        }
    }
}

/// The engines to try for a component, the preferred one first.
pub(super) struct EngineSet {
    pub(super) engines: Vec<EngineProfile>,
    /// Maximum attempts at a time: the size of the pool.
    pub(super) slots_max: usize,
    /// Settings with the same memory layout as the first engine's.
    pub(super) settings: Config,
}

impl EngineSet {
    /// Sets up the engines, with a pool for as many slots as there is address space for.
    pub(super) fn new(config: &RuntimeConfig) -> wasmtime::Result<Self> {
        let slots = config.slots.max(SLOTS_MIN);
        match pooling_engine(config, slots).or_else(|_| pooling_engine(config, config.slots)) {
            Ok((pooling, slots_max)) => {
                let settings = standard_config(config.stack_max);
                let on_demand = Engine::new(&settings)?;
                let concurrent = Engine::new(&concurrent_config(settings.clone()))?;
                let engines = vec![
                    EngineProfile::new(pooling, "pooling", false)?,
                    EngineProfile::new(on_demand, "on-demand", false)?,
                    EngineProfile::new(concurrent, "concurrent", false)?,
                ];
                Ok(Self { engines, slots_max, settings })
            }
            Err(why) => {
                tracing::warn!(why, "no pool of instances: attempts start slower");
                let settings = constrained_config(config.stack_max);
                let engine = Engine::new(&settings)?;
                let concurrent = Engine::new(&concurrent_config(settings.clone()))?;
                let engines = vec![
                    EngineProfile::new(engine, "on-demand", true)?,
                    EngineProfile::new(concurrent, "concurrent", true)?,
                ];
                Ok(Self { engines, slots_max: slots, settings })
            }
        }
    }
}

/// The engine with a pool for `slots` slots, or the reason why there is none.
fn pooling_engine(config: &RuntimeConfig, slots: usize) -> Result<(Engine, usize), String> {
    let instances = slots + LOADS_MAX;
    let needed = (MEMORY_RESERVATION + MEMORY_GUARD).saturating_mul((instances * MEMORIES) as u64);
    // The other half is for on-demand memories, code and everything else.
    let needed = needed.saturating_mul(2);
    if let Some(allowed) = system::address_space_max().filter(|allowed| *allowed < needed) {
        let (needed, allowed) = (system::bytes(needed), system::bytes(allowed));
        return Err(format!(
            "{slots} slots need {needed} of address space, and RLIMIT_AS (ulimit -v) is {allowed}: raise it, or lower \
             --concurrency"
        ));
    }
    let mut settings = standard_config(config.stack_max);
    let memory_max = usize::try_from(config.policies.memory_max(&config.limits)).unwrap_or(usize::MAX);
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(instances, memory_max)));
    let engine = Engine::new(&settings).map_err(|error| format!("{error:#}: {}", system::memory_limits()))?;
    Ok((engine, slots))
}

fn pool_config(instances: usize, memory_max: usize) -> PoolingAllocationConfig {
    let total = |each: usize| u32::try_from(instances.saturating_mul(each)).unwrap_or(u32::MAX);
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

/// Settings for unlimited address space, in which a guest has a stack of at most `stack_max` bytes.
pub(super) fn standard_config(stack_max: usize) -> Config {
    let mut settings = common_config(stack_max);
    settings.memory_reservation(MEMORY_RESERVATION).memory_guard_size(MEMORY_GUARD);
    settings
}

/// Settings for processes whose address space is limited.
pub(super) fn constrained_config(stack_max: usize) -> Config {
    let mut settings = common_config(stack_max);
    settings
        .memory_reservation(64 << 20)
        // Each move copies the memory, so it grows in few large steps.
        .memory_reservation_for_growth(128 << 20)
        .memory_guard_size(64 << 10)
        .guard_before_linear_memory(false);
    settings
}

/// Settings for components with streams, futures or async functions.
pub(super) fn concurrent_config(mut settings: Config) -> Config {
    settings.concurrency_support(true).wasm_component_model_async(true);
    settings
}

fn common_config(stack_max: usize) -> Config {
    let mut settings = Config::new();
    settings
        .epoch_interruption(true)
        .wasm_exceptions(true)
        .wasm_gc(false)
        // It makes every store and every call slower.
        .concurrency_support(false)
        .max_wasm_stack(stack_max)
        .async_stack_size(stack_max + HOST_STACK)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        .parallel_compilation(*CAN_COMPILE_IN_PARALLEL)
        .wasm_component_model_map(true)
        .wasm_component_model_fixed_length_lists(true)
        // Function names are enough; offsets would only make code larger.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false);
    settings
}
