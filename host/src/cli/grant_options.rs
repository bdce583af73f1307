//! The options that grant something to guests.

use std::{fmt::Display, str::FromStr};

use clap::Args;

use super::{CliError, EXIT_USAGE, config_file::ConfigFile, parse_from_str, usage};
use crate::runtime::grants::{
    DirGrant, EnvGrant, Grant, GrantKind, GrantTable, HttpGrant, Scoped, SecretGrant, TcpGrant,
};

/// What guests may reach. Nothing by default.
#[derive(Args, Debug)]
#[command(next_help_heading = "Grants (each for all modules, or for one as MODULE@GRANT; can be repeated)")]
pub(super) struct GrantOptions {
    /// Give guests an environment variable; without =VALUE, with its value here
    #[arg(long, env = "FASTWORKER_ALLOW_ENV", hide_env_values = true, value_name = "NAME[=VALUE]",
          value_parser = parse_lines::<EnvGrant>)]
    allow_env: Vec<Lines<EnvGrant>>,
    /// Give guests a secret as an environment variable, and mask it in all that they write. A guest can still encode
    /// it: give secrets only to modules that you trust with them
    #[arg(long, env = "FASTWORKER_SECRET", hide_env_values = true, value_name = "NAME=file:PATH|env:VARIABLE",
          value_parser = parse_lines::<SecretGrant>)]
    secret: Vec<Lines<SecretGrant>>,
    /// Give guests a folder, at the path GUEST; with :ro, without the right to change it
    #[arg(long, env = "FASTWORKER_ALLOW_DIR", value_name = "FOLDER::GUEST[:ro]",
          value_parser = parse_lines::<DirGrant>)]
    allow_dir: Vec<Lines<DirGrant>>,
    /// Let guests send HTTP requests to a host, or only those below a path and with these methods. HOST is a name,
    /// an address, *.example.com or * for all public hosts
    #[arg(long, env = "FASTWORKER_ALLOW_HTTP", value_name = "HOST[:PORT][/PATH][#METHODS]",
          value_parser = parse_lines::<HttpGrant>)]
    allow_http: Vec<Lines<HttpGrant>>,
    /// Let guests open TCP connections to a host and port
    #[arg(long, env = "FASTWORKER_ALLOW_TCP", value_name = "HOST:PORT",
          value_parser = parse_lines::<TcpGrant>)]
    allow_tcp: Vec<Lines<TcpGrant>>,
}

/// The grants in one value of an option: one in each line, so that a variable can have several.
#[derive(Clone, Debug)]
struct Lines<G> {
    text: String,
    grants: Vec<Scoped<G>>,
}

fn parse_lines<G: FromStr<Err: Display>>(text: &str) -> Result<Lines<G>, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let grants = lines.map(parse_from_str::<Scoped<G>>).collect::<Result<Vec<_>, _>>()?;
    if grants.is_empty() { Err("write a grant".into()) } else { Ok(Lines { text: text.to_owned(), grants }) }
}

/// Where a grant is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GrantSource {
    /// A flag.
    Flag(&'static str),
    /// A variable.
    Variable(String),
    /// A line of the configuration file.
    FileLine(usize),
}

/// A grant that has effect.
#[derive(Debug)]
pub(super) struct SourcedGrant {
    /// The module; none for all modules.
    pub(super) module: Option<String>,
    pub(super) grant: Grant,
    pub(super) source: GrantSource,
}

impl GrantOptions {
    /// The grants of the options and of the file. An option replaces what the file has under the same key: for all
    /// modules, or for the same module.
    ///
    /// # Errors
    /// What the file grants and this host does not have, or a variable or folder that is granted twice.
    pub(super) fn table(&self, file: &ConfigFile) -> Result<GrantTable, CliError> {
        file.check_host()?;
        let mut table = GrantTable::default();
        for SourcedGrant { module, grant, .. } in self.with_sources(file) {
            table.add(module.as_deref(), grant).map_err(|error| CliError::new(EXIT_USAGE, error))?;
        }
        Ok(table)
    }

    /// The same, each with its source.
    pub(super) fn with_sources(&self, file: &ConfigFile) -> Vec<SourcedGrant> {
        let given = self.given();
        let is_replaced =
            |module: &Option<String>, kind| given.iter().any(|it| it.module == *module && it.grant.kind() == kind);
        let kept = file.grants.iter().filter(|it| !is_replaced(&it.module, it.grant.kind())).map(|it| SourcedGrant {
            module: it.module.clone(),
            grant: it.grant.clone(),
            source: GrantSource::FileLine(it.line),
        });
        let mut grants: Vec<SourcedGrant> = kept.collect();
        grants.extend(given);
        grants.sort_by(|one, other| (&one.module, one.grant.kind()).cmp(&(&other.module, other.grant.kind())));
        grants
    }

    /// The options as they are on the command line, for a server that this process starts: it inherits the variables.
    pub(super) fn typed(&self) -> Vec<String> {
        fn texts<G>(lines: &[Lines<G>]) -> Vec<&str> {
            lines.iter().map(|lines| &*lines.text).collect()
        }
        let options = [
            (GrantKind::Env, texts(&self.allow_env)),
            (GrantKind::Secret, texts(&self.secret)),
            (GrantKind::Dir, texts(&self.allow_dir)),
            (GrantKind::Http, texts(&self.allow_http)),
            (GrantKind::Tcp, texts(&self.allow_tcp)),
        ];
        let options = options.into_iter().map(|(kind, texts)| (kind.option(), texts));
        let typed = options.filter(|(option, _)| usage::is_typed(option));
        typed.flat_map(|(option, texts)| texts.into_iter().map(move |text| format!("--{option}={text}"))).collect()
    }

    /// The grants of flags and variables.
    fn given(&self) -> Vec<SourcedGrant> {
        fn sourced<G: Clone>(lines: &[Lines<G>], wrap: fn(G) -> Grant) -> Vec<SourcedGrant> {
            let grants = lines.iter().flat_map(|lines| &lines.grants).map(|Scoped { module, grant }| {
                let (module, grant) = (module.clone(), wrap(grant.clone()));
                let option = grant.kind().option();
                let source =
                    usage::variable(&format!("--{option}")).map_or(GrantSource::Flag(option), GrantSource::Variable);
                SourcedGrant { module, grant, source }
            });
            grants.collect()
        }
        [
            sourced(&self.allow_env, Grant::Env),
            sourced(&self.secret, Grant::Secret),
            sourced(&self.allow_dir, Grant::Dir),
            sourced(&self.allow_http, Grant::Http),
            sourced(&self.allow_tcp, Grant::Tcp),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
