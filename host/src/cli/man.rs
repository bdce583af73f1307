//! `fastworker man`

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory as _, builder::Resettable};
use clap_complete::engine::ArgValueCandidates;
use clap_mangen::Man as Page;

use super::{Cli, Failure, Outcome, TASK_FAILED, WRONG_USAGE, complete, failure::plain, render};
use crate::nearest::did_you_mean;

#[derive(Args, Debug)]
#[command(after_help = "Read a page with: fastworker man submit | man -l -")]
pub(super) struct Man {
    /// Print the page of this command, such as submit or schedule add [default: fastworker itself]
    #[arg(value_name = "COMMAND", num_args = 0.., add = ArgValueCandidates::new(complete::commands))]
    command: Vec<String>,
    /// Write the page, or without COMMAND all pages, to this folder
    #[arg(long, env = "FASTWORKER_OUT", value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Outcome {
        let mut pages = pages();
        if !self.command.is_empty() || self.out.is_none() {
            let wanted = ["fastworker".to_owned()].into_iter().chain(self.command.iter().cloned());
            let wanted = wanted.collect::<Vec<_>>().join("-");
            pages.retain(|(name, _)| *name == wanted);
        }
        if pages.is_empty() {
            return Err(unknown(&self.command.join("-")));
        }
        let Some(folder) = self.out else {
            for (_, page) in pages {
                render::text(&page.map_err(|error| Failure::new(TASK_FAILED, error))?);
            }
            return Ok(0);
        };
        let shown = folder.display().to_string();
        let (count, first) = (pages.len(), pages.last().map(|(name, _)| name.clone()).unwrap_or_default());
        let written = fs::create_dir_all(&folder).and_then(|()| {
            pages.into_iter().try_for_each(|(name, page)| fs::write(folder.join(name).with_extension("1"), page?))
        });
        written.map_err(|error| {
            Failure::new(TASK_FAILED, format!("cannot write manual pages to {shown}: {}", plain(&error)))
                .hint("choose a folder that you may write to with --out")
        })?;
        let what = if count == 1 { "1 page".to_owned() } else { format!("{count} pages") };
        render::text(&format!("wrote {what} to {shown}; read one with: man -l {shown}/{first}.1"));
        Ok(0)
    }
}

fn unknown(command: &str) -> Failure {
    let names = names();
    let hint = did_you_mean(command, names.iter().map(String::as_str));
    Failure::new(WRONG_USAGE, format!("there is no command '{}'", command.replace('-', " ")))
        .hint(hint.unwrap_or_else(|| "fastworker --help lists the commands".to_owned()))
}

/// The commands that have a page: `submit`, `schedule`, `schedule-add`.
pub(super) fn names() -> Vec<String> {
    let whole = Cli::command().disable_help_subcommand(true);
    let below = |command: &clap::Command| {
        let name = command.get_name().to_owned();
        let deeper: Vec<String> = command.get_subcommands().map(|it| format!("{name}-{}", it.get_name())).collect();
        [vec![name], deeper].concat()
    };
    whole.get_subcommands().flat_map(below).collect()
}

/// The pages of all commands, by name; that of fastworker itself comes last.
fn pages() -> Vec<(String, io::Result<String>)> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let mut pages = Vec::new();
    add_pages(whole, String::new(), &mut pages);
    pages
}

/// Adds the page of a command below `above`, and those of the commands below it.
fn add_pages(command: clap::Command, above: String, pages: &mut Vec<(String, io::Result<String>)>) {
    let spoken = above + command.get_name();
    let name = spoken.replace(' ', "-");
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        add_pages(below.clone(), format!("{spoken} "), pages);
    }
    pages.push((name.clone(), page(command.display_name(name).bin_name(spoken))));
}

fn page(mut command: clap::Command) -> io::Result<String> {
    // As --help says it: with what is required, and no list of all that is not.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let notes = command.get_after_help().map(|notes| section("NOTES", &notes.to_string()));
    let command = command.override_usage(usage).after_help(Resettable::Reset);
    let mut text = Vec::new();
    let version = concat!("fastworker ", env!("CARGO_PKG_VERSION"));
    Page::new(command).source(version).manual("fastworker").render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned() + &notes.unwrap_or_default())
}

/// A section of paragraphs. A line that is indented is an example, and stays a line.
fn section(name: &str, text: &str) -> String {
    let shown = |line: &str| {
        let escaped = line.trim_start().replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        let escaped = if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped };
        match line {
            "" => ".PP".to_owned(),
            example if example.starts_with("  ") => format!(".nf\n    {escaped}\n.fi"),
            _ => escaped,
        }
    };
    let lines: Vec<String> = text.lines().map(shown).collect();
    format!(".SH {name}\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_usage_and_its_examples_as_they_are_typed() {
        let pages = pages();
        let page = |name: &str| {
            let found = pages.iter().find(|(known, _)| known == name).expect("there is such a page");
            found.1.as_ref().expect("it can be written").replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")
        };
        assert!(page("fastworker-submit").contains("fastworker submit [OPTIONS] --task-name <NAME>"));
        let add = page("fastworker-schedule-add");
        assert!(
            add.contains(".nf\n    fastworker schedule add cleanup --task-name cleanup --every 10m\n.fi\n"),
            "{add}"
        );
    }
}
