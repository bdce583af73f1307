//! The tree of commands, as clap builds it, for manual pages, completion and usage errors.

use clap::{Command, CommandFactory as _};

use super::Cli;

/// Calls `visit` with the full name and the definition of every command: first `fastworker`, then the commands
/// below it, such as `fastworker schedule add`.
pub(super) fn visit(visit: &mut impl FnMut(&str, &Command)) {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    visit_below(&root, "", visit);
}

fn visit_below(command: &Command, parent: &str, visit: &mut impl FnMut(&str, &Command)) {
    let name = format!("{parent}{}", command.get_name());
    visit(&name, command);
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        visit_below(below, &format!("{name} "), visit);
    }
}

/// The commands below `fastworker`, with hyphens: `submit`, `schedule`, `schedule-add`.
pub(super) fn names() -> Vec<String> {
    let mut names = Vec::new();
    visit(&mut |name, _| names.extend(name.split_once(' ').map(|(_, name)| name.replace(' ', "-"))));
    names
}

/// Descends from `command` as long as the words name subcommands.
pub(super) fn find<'a>(mut command: Command, words: impl IntoIterator<Item = &'a str>) -> Command {
    command.build();
    for word in words {
        match command.find_subcommand(word) {
            Some(below) => command = below.clone(),
            None => break,
        }
    }
    command
}
