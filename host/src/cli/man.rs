//! `fastworker man`

use std::{fs, io, path::PathBuf};

use clap::{Args, builder::Resettable};
use clap_complete::engine::ArgValueCandidates;
use clap_mangen::Man as Page;

use super::{CliError, CommandResult, EXIT_FAILURE, EXIT_USAGE, command_tree, complete, error::os_message, render};
use crate::nearest::did_you_mean;

#[derive(Args, Debug)]
#[command(after_help = "Read a page with: fastworker man submit | man -l -")]
pub(super) struct ManCommand {
    /// Command whose page to print, such as submit or schedule add [default: fastworker itself]
    #[arg(value_name = "COMMAND", num_args = 0.., add = ArgValueCandidates::new(complete::commands))]
    command: Vec<String>,
    /// Write the page, or all pages if COMMAND is omitted, to this folder
    #[arg(long, env = "FASTWORKER_OUT", value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

impl ManCommand {
    pub(super) fn run(self) -> CommandResult {
        let mut pages = pages();
        if !self.command.is_empty() || self.out.is_none() {
            let words = ["fastworker".to_owned()].into_iter().chain(self.command.iter().cloned());
            let page_name = words.collect::<Vec<_>>().join("-");
            pages.retain(|(name, _)| *name == page_name);
        }
        if pages.is_empty() {
            return Err(command_not_found(&self.command.join(" ")));
        }
        let Some(folder) = self.out else {
            for (_, page) in pages {
                render::print_text(&page.map_err(|error| CliError::new(EXIT_FAILURE, error))?);
            }
            return Ok(0);
        };
        let path = folder.display().to_string();
        let (count, first) = (pages.len(), pages.first().map(|(name, _)| name.clone()).unwrap_or_default());
        let result = fs::create_dir_all(&folder).and_then(|()| {
            pages.into_iter().try_for_each(|(name, page)| fs::write(folder.join(name).with_extension("1"), page?))
        });
        result.map_err(|error| {
            CliError::new(EXIT_FAILURE, format!("cannot write manual pages to {path}: {}", os_message(&error)))
                .hint("choose a folder that you can write to with --out")
        })?;
        let pages = if count == 1 { "1 page".to_owned() } else { format!("{count} pages") };
        render::print_text(&format!("wrote {pages} to {path}; read one with: man -l {path}/{first}.1"));
        Ok(0)
    }
}

fn command_not_found(command: &str) -> CliError {
    let names = command_tree::names();
    let hint = did_you_mean(command, names.iter().map(String::as_str));
    CliError::new(EXIT_USAGE, format!("there is no command '{command}'"))
        .hint(hint.unwrap_or_else(|| "fastworker --help lists the commands".to_owned()))
}

/// The pages of all commands by name, such as `fastworker-schedule-add`; `fastworker` comes first.
fn pages() -> Vec<(String, io::Result<String>)> {
    let mut pages = Vec::new();
    command_tree::visit(&mut |full_name, command| {
        let name = full_name.replace(' ', "-");
        let command = command.clone().display_name(name.clone()).bin_name(full_name.to_owned());
        pages.push((name, page(command)));
    });
    pages
}

fn page(mut command: clap::Command) -> io::Result<String> {
    // The short form of --help: required options only.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let notes = command.get_after_help().map(|notes| section("NOTES", &notes.to_string()));
    let command = command.override_usage(usage).after_help(Resettable::Reset);
    let mut roff = Vec::new();
    let version = concat!("fastworker ", env!("CARGO_PKG_VERSION"));
    Page::new(command).source(version).manual("fastworker").render(&mut roff)?;
    Ok(String::from_utf8_lossy(&roff).into_owned() + &notes.unwrap_or_default())
}

/// A section of paragraphs. Indented lines are examples, and keep their line breaks.
fn section(name: &str, text: &str) -> String {
    let to_roff = |line: &str| {
        let escaped = line.trim_start().replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        let escaped = if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped };
        match line {
            "" => ".PP".to_owned(),
            example if example.starts_with("  ") => format!(".nf\n    {escaped}\n.fi"),
            _ => escaped,
        }
    };
    let lines: Vec<String> = text.lines().map(to_roff).collect();
    format!(".SH {name}\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_usage_and_verbatim_examples() {
        let pages = pages();
        let page = |name: &str| {
            let entry = pages.iter().find(|(known, _)| known == name).expect("there is such a page");
            entry.1.as_ref().expect("it can be written").replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")
        };
        assert!(page("fastworker-submit").contains("fastworker submit [OPTIONS] --task-name <NAME>"));
        let add = page("fastworker-schedule-add");
        assert!(
            add.contains(".nf\n    fastworker schedule add cleanup --task-name cleanup --every 10m\n.fi\n"),
            "{add}"
        );
    }
}
