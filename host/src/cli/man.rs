//! `fastworker man`

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::engine::ArgValueCandidates;
use clap_mangen::Man as Page;

use super::{Cli, Failure, NOT_FOUND, Outcome, TASK_FAILED, complete, render};

#[derive(Args, Debug)]
#[command(after_help = "Read one with: fastworker man submit | man -l -")]
pub(super) struct Man {
    /// The command whose page to print, such as submit or schedule-add [default: fastworker itself]
    #[arg(value_name = "COMMAND", add = ArgValueCandidates::new(complete::commands))]
    command: Option<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(long, env = "FASTWORKER_OUT", value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Outcome {
        let pages = pages();
        let Some(folder) = self.out else {
            let wanted = self.command.map_or("fastworker".to_owned(), |command| format!("fastworker-{command}"));
            let page = pages.into_iter().find(|(name, _)| *name == wanted);
            let (_, page) = page.ok_or_else(|| {
                Failure::new(NOT_FOUND, format!("there is no page {wanted}"))
                    .hint("fastworker --help lists the commands")
            })?;
            render::text(&page.map_err(|error| Failure::new(TASK_FAILED, error))?);
            return Ok(0);
        };
        let count = pages.len();
        let written = fs::create_dir_all(&folder).and_then(|()| {
            pages.into_iter().try_for_each(|(name, page)| fs::write(folder.join(name).with_extension("1"), page?))
        });
        let shown = folder.display();
        written.map_err(|error| Failure::new(TASK_FAILED, format!("cannot write the pages to {shown}: {error}")))?;
        render::note(&format!("{count} pages are in {shown}; read one with: man -l {shown}/fastworker.1"));
        Ok(0)
    }
}

/// The pages of all commands, by name.
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

fn page(command: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    let version = concat!("fastworker ", env!("CARGO_PKG_VERSION"));
    Page::new(command).source(version).manual("fastworker").render(&mut text)?;
    // It has no better name for what stands below a command's help.
    Ok(String::from_utf8_lossy(&text).replace("\n.SH EXTRA\n", "\n.SH NOTES\n"))
}
