//! Log messages and notes that tests wait for, each in one place.

/// A worker was refused because another one with its id is connected.
pub const ID_IS_TAKEN: &str = "still connected";
/// A worker registers again after it lost its connection.
pub const REGISTERS_AGAIN: &str = "registering again";
/// A server stopped accepting work, and finishes what runs.
pub const DRAINS: &str = "draining";
/// A worker gets no reply from its control plane.
pub const NO_REPLY: &str = "no reply, retrying";
/// A command waits for a task.
pub const WAITS: &str = "waiting for it to end";
/// The last line of a server.
pub const STOPPED: &str = " stopped";
/// A peer was disconnected: it has too many open requests, or does not read its replies.
pub const PEER_DISCONNECTED: &str = "disconnected a peer";
/// All modules of the start are loaded or refused.
pub const MODULES_SETTLED: &str = "all modules are loaded or refused";
/// Compiled code is not kept.
pub const NO_CODE_CACHE: &str = "no cache of compiled code";
/// A module is removed, and its tasks are no longer available.
pub const MODULE_DROPPED: &str = "module dropped";
/// A module was refused.
pub const MODULE_REFUSED: &str = "not loaded";
/// A callback could not be delivered.
pub const CALLBACK_FAILED: &str = "callback not delivered";
/// Callbacks were given up at the end of the control plane.
pub const CALLBACKS_LOST: &str = "callbacks that were not delivered, which are lost";
