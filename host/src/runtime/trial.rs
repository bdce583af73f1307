//! Sets up sandboxes on trial, to find out at the start for how many there is room.

use std::sync::Arc;

use super::{
    DebugLog, Inner,
    call::{CallMode, PreparedModule},
    compiled::{self, Cache},
    compiler,
    engine::{EngineProfile, EngineSet},
    host_errors::explain,
    slot::{ADDRESS_SPACE_LATER, Slot},
};
use crate::system;

/// `(component (core module (memory 1)) (core instance (instantiate 0)))`
const TRIAL_COMPONENT: [u8; 29] = *b"\0asm\x0d\0\x01\0\x01\x0d\0asm\x01\0\0\0\x05\x03\x01\0\x01\x02\x04\x01\0\0\0";

/// The smallest component with a memory, prepared for each engine.
pub(super) fn trial_modules(engines: &EngineSet) -> wasmtime::Result<Vec<PreparedModule>> {
    let code = Cache::compile_here(&engines.settings, &TRIAL_COMPONENT)?;
    let prepare = |profile: &EngineProfile| {
        let component = compiled::instantiable(&profile.engine, &code)?;
        // Async, as its stack takes room as well.
        let mode = CallMode::Async;
        Ok(PreparedModule { pre: profile.linker(mode).instantiate_pre(&component)?, mode })
    };
    engines.engines.iter().map(prepare).collect()
}

impl Inner {
    /// Sets up one sandbox on every engine, and on the first engine as many at a time as there are
    /// slots. Returns how many of these there was room for.
    ///
    /// # Errors
    /// What was missing for even one.
    pub(super) fn try_sandboxes(&self, modules: &[PreparedModule]) -> Result<usize, String> {
        let slots = self.config.slots.max(1);
        // What a worker takes later: its threads, and the transport's.
        let later = ADDRESS_SPACE_LATER + slots * compiler::STACK;
        let _reserved = if system::has_limited_address_space() {
            let reserved = system::reserve(later);
            Some(
                reserved
                    .ok_or_else(|| format!("{} are not left: {}", system::bytes(later as u64), system::memory()))?,
            )
        } else {
            None
        };
        let Some((first, others)) = modules.split_first() else { return Ok(0) };
        let room = self.try_engine(first, slots)?;
        for module in others {
            let (result, _store) = self.trial_slot().set_up(module);
            // Only modules that do not fit into the pool need it.
            if let Err(error) = result {
                let why = explain(&error);
                tracing::warn!(why, "no room for modules that do not fit into the pool of instances");
            }
        }
        Ok(room)
    }

    /// Sets up at most `slots` sandboxes at a time, and returns how many there was room for.
    fn try_engine(&self, module: &PreparedModule, slots: usize) -> Result<usize, String> {
        let mut sandboxes = Vec::with_capacity(slots);
        while sandboxes.len() < slots {
            let mut slot = self.trial_slot();
            match slot.set_up(module) {
                (Ok(()), store) => sandboxes.push((slot, store)),
                (Err(error), _) if sandboxes.is_empty() => return Err(explain(&error)),
                (Err(error), _) => {
                    let (room, why) = (sandboxes.len(), explain(&error));
                    tracing::warn!(
                        room,
                        slots,
                        why,
                        "there is room for fewer slots than configured: the others are left out"
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
    fn the_trial_component_is_what_its_comment_says() {
        let text = "(component (core module (memory 1)) (core instance (instantiate 0)))";
        assert_eq!(wat::parse_str(text).expect("a component"), TRIAL_COMPONENT);
    }
}
