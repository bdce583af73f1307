//! Creates trial sandboxes at the start, to find out how many fit into memory.

use std::sync::Arc;

use super::{
    DebugLog, Inner,
    call::{CallMode, Prepared, PreparedModule},
    compiled::{self, Cache, Instantiable},
    compiler,
    engine::{EngineProfile, EngineSet},
    host_errors::explain,
    reach::Reach,
    slot::{ADDRESS_SPACE_LATER, Slot},
};
use crate::system;

/// `(component (core module (memory 1)) (core instance (instantiate 0)))`
const TRIAL_COMPONENT: [u8; 29] = *b"\0asm\x0d\0\x01\0\x01\x0d\0asm\x01\0\0\0\x05\x03\x01\0\x01\x02\x04\x01\0\0\0";

/// The smallest component with a memory, prepared for each engine.
pub(super) fn trial_modules(engines: &EngineSet) -> wasmtime::Result<Vec<PreparedModule>> {
    let code = Cache::compile_here(&engines.settings, &TRIAL_COMPONENT)?;
    let prepare = |profile: &EngineProfile| {
        let Instantiable::Component(component) = compiled::instantiable(&profile.engine, &code)? else {
            wasmtime::bail!("it was compiled as a component")
        };
        // Async, as its stack needs address space as well.
        let mode = CallMode::Async;
        let pre = Prepared::Component(profile.linker(mode).instantiate_pre(&component)?);
        Ok(PreparedModule::new(pre, mode, Arc::new(Reach::none())))
    };
    // The last one is for other code, and allocates like the one before it.
    let (_concurrent, engines) = engines.engines.split_last().expect("there are engines");
    engines.iter().map(prepare).collect()
}

impl Inner {
    /// Creates one sandbox on every engine, and on the first engine as many at a time as there are slots. Returns the
    /// number of those that could be created.
    ///
    /// # Errors
    /// The missing resource, if not even one could be created.
    pub(super) fn try_sandboxes(&self, modules: &[PreparedModule]) -> Result<usize, String> {
        let slots = self.config.slots.max(1);
        // Memory that a worker needs later: for its threads, and the transport's.
        let later = ADDRESS_SPACE_LATER + slots * compiler::STACK;
        let _reserved = if system::has_limited_address_space() {
            let reserved = system::reserve(later);
            Some(reserved.ok_or_else(|| {
                format!("{} of memory are not available: {}", system::bytes(later as u64), system::memory_limits())
            })?)
        } else {
            None
        };
        let Some((first, others)) = modules.split_first() else { return Ok(0) };
        let capacity = self.try_engine(first, slots)?;
        for module in others {
            let (result, _store) = self.trial_slot().set_up(module);
            // Only modules that do not fit into the pool need it.
            if let Err(error) = result {
                let why = explain(&error);
                tracing::warn!(why, "not enough memory for modules that do not fit into the pool of instances");
            }
        }
        Ok(capacity)
    }

    /// Creates at most `slots` sandboxes at a time, and returns how many could be created.
    fn try_engine(&self, module: &PreparedModule, slots: usize) -> Result<usize, String> {
        let mut sandboxes = Vec::with_capacity(slots);
        while sandboxes.len() < slots {
            let mut slot = self.trial_slot();
            match slot.set_up(module) {
                (Ok(()), store) => sandboxes.push((slot, store)),
                (Err(error), _) if sandboxes.is_empty() => return Err(explain(&error)),
                (Err(error), _) => {
                    let (capacity, why) = (sandboxes.len(), explain(&error));
                    tracing::warn!(
                        capacity,
                        slots,
                        why,
                        "out of memory for all configured slots: the worker has fewer"
                    );
                    break;
                }
            }
        }
        Ok(sandboxes.len())
    }

    fn trial_slot(&self) -> Slot {
        Slot::new(&self.config, &self.watchdog, Arc::new(DebugLog))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_component_is_that_of_its_comment() {
        let text = "(component (core module (memory 1)) (core instance (instantiate 0)))";
        assert_eq!(wat::parse_str(text).expect("a component"), TRIAL_COMPONENT);
    }
}
