//! Tests: tasks that try what is outside of the sandbox, and return what they got or the error as it reads here.
//!
//! Without grants each of them is refused. They use the interfaces of WASI as they are, so that they can also try what
//! no library would.

mod files;
#[cfg(target_family = "wasm")]
mod http;
mod secrets;
#[cfg(target_family = "wasm")]
mod sockets;
