//! What imports of a module are granted, in words.

use crate::runtime::{
    grants::{GrantKind, ImportAccess},
    inspect::import_problem,
};

/// What the names of grants give to an import, or the options that would. None if it needs no grant.
pub(super) fn import_note(import: &str, grants: &[String]) -> Option<String> {
    if let Some(problem) = import_problem(import) {
        return Some(problem);
    }
    match ImportAccess::of(import) {
        ImportAccess::Nothing => None,
        ImportAccess::Denied => Some("always denied".to_owned()),
        ImportAccess::Granted(kinds) => {
            let names = names_of(kinds, grants);
            Some(if names.is_empty() { format!("nothing granted: {}", options(kinds)) } else { names.join(", ") })
        }
    }
}

/// The names of grants that are of these kinds.
pub(super) fn names_of<'a>(kinds: &[GrantKind], grants: &'a [String]) -> Vec<&'a str> {
    let is_of = |name: &&str| kinds.iter().any(|kind| name.starts_with(kind.prefix()));
    grants.iter().map(String::as_str).filter(is_of).collect()
}

/// The options that grant something of these kinds.
pub(super) fn options(kinds: &[GrantKind]) -> String {
    let options: Vec<&str> = kinds.iter().map(|kind| kind.example()).collect();
    match options.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        options => options.concat(),
    }
}
