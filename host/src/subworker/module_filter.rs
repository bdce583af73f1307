//! Which modules a subworker takes from its control plane.

use std::collections::BTreeSet;

/// A choice among the control plane's modules, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModuleFilter {
    /// All of them, also those that it gets later.
    #[default]
    All,
    /// Those with these names.
    Named(BTreeSet<String>),
}

impl ModuleFilter {
    /// Whether it includes a module of this name.
    pub fn accepts(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// Its names that are not among these.
    pub fn missing(&self, names: &BTreeSet<String>) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Named(wanted) => wanted.difference(names).cloned().collect(),
        }
    }
}
