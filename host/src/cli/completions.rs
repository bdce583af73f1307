//! `fastworker completions`

use std::env;

use clap::Args;
use clap_complete::{engine::ArgValueCandidates, env::Shells};

use super::{CliError, CommandResult, EXIT_FAILURE, complete, render};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CompletionsCommand {
    /// Shell: bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", value_parser = parse_shell, add = ArgValueCandidates::new(shell_candidates))]
    shell: String,
}

const AFTER_HELP: &str = "\
Completes commands, options and their values, and the names that the running control plane knows: task names, \
worker ids, task ids and schedules. To set it up, run the line for your shell once:

  echo 'source <(fastworker completions bash)' >> ~/.bashrc
  echo 'source <(fastworker completions zsh)' >> ~/.zshrc
  echo 'fastworker completions fish | source' >> ~/.config/fish/config.fish

The script belongs to this version of fastworker. These lines generate it each time a shell starts.";

impl CompletionsCommand {
    pub(super) fn run(self) -> CommandResult {
        let mut script = Vec::new();
        let completer = completer();
        Shells::builtins()
            .completer(&self.shell)
            .map(|shell| {
                shell.write_registration(complete::VARIABLE, "fastworker", "fastworker", &completer, &mut script)
            })
            .transpose()
            .map_err(|error| CliError::new(EXIT_FAILURE, format!("cannot write the script: {error}")))?;
        render::print_text(&String::from_utf8_lossy(&script));
        Ok(0)
    }
}

/// The command that the shell runs to complete: the name by which this program was started, or its full path.
fn completer() -> String {
    let name = env::args().next().unwrap_or_else(|| "fastworker".into());
    if !name.contains('/') {
        return name;
    }
    env::current_exe().map_or(name, |path| path.to_string_lossy().into_owned())
}

fn shell_candidates() -> Vec<clap_complete::engine::CompletionCandidate> {
    Shells::builtins().names().map(Into::into).collect()
}

fn parse_shell(text: &str) -> Result<String, String> {
    let shells = Shells::builtins();
    let known = shells.completer(text).map(|shell| shell.name().to_owned());
    known.ok_or_else(|| format!("choose one of {}", shells.names().collect::<Vec<_>>().join(", ")))
}
