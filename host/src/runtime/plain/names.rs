//! The exported functions of a component, and their names as tasks.

use std::collections::HashMap;

use wasmtime::{
    Engine,
    component::{
        Component, ComponentExportIndex,
        types::{ComponentFunc, ComponentItem},
    },
};

use crate::runtime::program;

/// An exported function.
pub(super) struct ExportedFunction {
    /// `ns:pkg/ops@1.0.0#mul`, or `module#add` if it is not in an interface.
    pub(super) full_name: String,
    /// `ops.mul` or `add`. None if another function of the component has it as well.
    pub(super) short_name: Option<String>,
    pub(super) export: ComponentExportIndex,
    pub(super) ty: ComponentFunc,
    /// Why it cannot be called, if that is known from its name.
    pub(super) obstacle: Option<&'static str>,
}

/// Whether a function is no task: an initialization that componentize-py adds, or part of the contract, which is called
/// in its own way.
fn is_hidden(interface: &str, function: &str) -> bool {
    (interface, function) == ("exports", "init") || interface.starts_with("fastworker:task/")
}

/// The exported functions of a component in its order. `module` is the name of its file.
pub(super) fn exported_functions(engine: &Engine, component: &Component, module: &str) -> Vec<ExportedFunction> {
    let mut functions = Vec::new();
    for (name, export) in component.component_type().exports(engine) {
        match export.ty {
            ComponentItem::ComponentFunc(ty) => {
                let Some(index) = component.get_export_index(None, name) else { continue };
                functions.push(function(format!("{module}#{name}"), None, name, index, ty));
            }
            ComponentItem::ComponentInstance(instance) => {
                let Some(parent) = component.get_export_index(None, name) else { continue };
                for (inner, export) in instance.exports(engine) {
                    let ComponentItem::ComponentFunc(ty) = export.ty else { continue };
                    let Some(index) = component.get_export_index(Some(&parent), inner) else { continue };
                    if !is_hidden(name, inner) {
                        functions.push(function(format!("{name}#{inner}"), Some(name), inner, index, ty));
                    }
                }
            }
            _ => {}
        }
    }
    remove_ambiguous(&mut functions);
    functions
}

fn function(
    full_name: String,
    interface: Option<&str>,
    name: &str,
    export: ComponentExportIndex,
    ty: ComponentFunc,
) -> ExportedFunction {
    let (name, obstacle) = match name.split_once(']') {
        Some(("[constructor", name)) => (name, Some("it creates a resource")),
        Some(("[method", name)) => (name, Some("it is a method of a resource")),
        // A static function of a resource is a function like any other.
        Some((_, name)) => (name, None),
        None => (name, None),
    };
    let obstacle =
        if program::is_command(&full_name) { Some("the component's other functions are its tasks") } else { obstacle };
    let short_name = interface.map_or_else(|| name.to_owned(), |interface| format!("{}.{name}", short(interface)));
    ExportedFunction { full_name, short_name: Some(short_name), export, ty, obstacle }
}

/// `ops` for `ns:pkg/ops@1.0.0`.
fn short(interface: &str) -> &str {
    let path = interface.split_once('@').map_or(interface, |(path, _version)| path);
    path.rsplit_once('/').map_or(path, |(_package, name)| name)
}

/// Removes short names that several functions have.
fn remove_ambiguous(functions: &mut [ExportedFunction]) {
    let mut counts = HashMap::<String, u32>::new();
    for name in functions.iter().filter_map(|function| function.short_name.clone()) {
        *counts.entry(name).or_default() += 1;
    }
    for function in functions {
        function.short_name.take_if(|name| counts.get(&**name).is_some_and(|count| *count > 1));
    }
}
