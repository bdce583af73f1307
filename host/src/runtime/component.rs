//! Inspects a module file before and after it is compiled.
//!
//! Most unusable modules are not broken: they are core modules, text, incomplete files, or they import an interface
//! that is not granted. Each of these has its own message.

use wasmtime::{
    Engine,
    component::{Component, types::ComponentItem},
};

use super::{call::CallMode, error::ModuleError, sections};

/// The first bytes of every WebAssembly file.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module.
const CORE: [u8; 4] = [1, 0, 0, 0];

/// The kind of a WebAssembly file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Component,
    CoreModule,
}

/// The kind of a file, if it looks like complete WebAssembly. Its content is not parsed.
///
/// # Errors
/// [`ModuleError`] if it is empty, text, not WebAssembly, or ends in the middle.
pub(super) fn kind(bytes: &[u8]) -> Result<FileKind, ModuleError> {
    if bytes.is_empty() {
        return Err(ModuleError::Empty);
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let text = bytes.trim_ascii_start();
        let is_text = [&b"(component"[..], b"(module", b";;", b"(;"].iter().any(|start| text.starts_with(start));
        return Err(if is_text { ModuleError::Text } else { ModuleError::NotWasm });
    };
    let kind = if rest.starts_with(&CORE) { FileKind::CoreModule } else { FileKind::Component };
    if sections::are_complete(bytes) { Ok(kind) } else { Err(ModuleError::Truncated { size: bytes.len() }) }
}

/// The interfaces that a component imports, in its order.
pub(super) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// The names that a component exports, in its order.
pub(super) fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// Returns the call mode of a component's functions. It can wait if it imports a *function* that waits; the types of
/// such an interface alone do not count, nor does stdout, which never blocks here.
pub(super) fn call_mode(engine: &Engine, component: &Component) -> CallMode {
    let ty = component.component_type();
    let functions = ty.imports(engine).flat_map(|(interface, import)| {
        let ComponentItem::ComponentInstance(instance) = import.ty else { return Vec::new() };
        let functions = instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        functions.map(|(function, _)| call_mode_of(unversioned(interface), function)).collect()
    });
    functions.max().unwrap_or(CallMode::Sync)
}

fn call_mode_of(interface: &str, function: &str) -> CallMode {
    match interface {
        _ if can_wait(interface, function) => CallMode::Async,
        other if other.starts_with("wasi:io/") || other.starts_with("wasi:filesystem/") => CallMode::SyncInRuntime,
        _ => CallMode::Sync,
    }
}

fn can_wait(interface: &str, function: &str) -> bool {
    match interface {
        "wasi:io/poll" => matches!(function, "poll" | "[method]pollable.block"),
        "wasi:io/streams" => matches!(
            function,
            "[method]input-stream.blocking-read"
                | "[method]input-stream.blocking-skip"
                | "[method]output-stream.blocking-splice"
        ),
        other => other.starts_with("wasi:sockets/") || other.starts_with("wasi:http/"),
    }
}

/// `wasi:io/poll` for `wasi:io/poll@0.2.6`.
fn unversioned(interface: &str) -> &str {
    interface.split_once('@').map_or(interface, |(name, _version)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_complete_webassembly_are_rejected() {
        let component = b"\0asm\x0d\0\x01\0";
        assert!(matches!(kind(component), Ok(FileKind::Component)));
        assert!(matches!(kind(&[&component[..], &[0, 2, 1, b'x']].concat()), Ok(FileKind::Component)));
        assert!(matches!(kind(b"\0asm\x01\0\0\0"), Ok(FileKind::CoreModule)));
        assert!(matches!(kind(b""), Err(ModuleError::Empty)));
        assert!(matches!(kind(b"\n(component)"), Err(ModuleError::Text)));
        assert!(matches!(kind(b"\x7fELF"), Err(ModuleError::NotWasm)));
        assert!(matches!(kind(b"\0asm\x0d"), Err(ModuleError::Truncated { size: 5 })));
        assert!(matches!(kind(&[&component[..], &[0, 3, 1, b'x']].concat()), Err(ModuleError::Truncated { .. })));
        assert!(matches!(kind(&[&component[..], &[0, 0x80]].concat()), Err(ModuleError::Truncated { .. })));
    }

    #[test]
    fn only_imported_functions_that_wait_make_calls_async() {
        let of = |interface: &str, function: &str| call_mode_of(unversioned(interface), function);
        assert_eq!(of("wasi:io/poll@0.2.6", "poll"), CallMode::Async);
        assert_eq!(of("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.start-bind"), CallMode::Async);
        assert_eq!(
            of("wasi:io/streams@0.2.0", "[method]output-stream.blocking-write-and-flush"),
            CallMode::SyncInRuntime
        );
        assert_eq!(of("wasi:cli/stdout@0.2.6", "get-stdout"), CallMode::Sync);
        assert_eq!(of("wasi:io/poll@0.2.6", "[method]pollable.ready"), CallMode::SyncInRuntime);
    }
}
