//! `MODULE@GRANT`: a grant for one module.

use std::str::FromStr;

/// A grant for all modules, or for one: `MODULE@GRANT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoped<G> {
    /// The module's name; none for all modules.
    pub module: Option<String>,
    /// The grant.
    pub grant: G,
}

impl<G: FromStr> FromStr for Scoped<G> {
    type Err = G::Err;

    fn from_str(text: &str) -> Result<Self, G::Err> {
        // An @ that belongs to the grant itself, as in NAME=a@b or ./a@b::/data, follows one of these.
        let module = text.split_once('@').filter(|(module, _)| !module.is_empty() && !module.contains(['=', ':', '/']));
        match module {
            Some((module, grant)) => Ok(Self { module: Some(module.to_owned()), grant: grant.parse()? }),
            None => Ok(Self { module: None, grant: text.parse()? }),
        }
    }
}
