//! `fastworker man`

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::engine::ArgValueCandidates;
use clap_mangen::Man as Page;

use super::{Cli, Failure, NOT_FOUND, Outcome, TASK_FAILED, complete, render};

#[derive(Args, Debug)]
#[command(after_help = "Read one with: fastworker man submit | man -l -")]
pub(super) struct Man {
    /// The command whose page to print [default: fastworker itself]
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
    let commands: Vec<clap::Command> = whole.get_subcommands().cloned().collect();
    let of_command = |command: clap::Command| {
        let name = format!("fastworker-{}", command.get_name());
        let spoken = format!("fastworker {}", command.get_name());
        let command = command.display_name(name.clone()).bin_name(spoken);
        (name, page(command))
    };
    std::iter::once(("fastworker".to_owned(), page(whole))).chain(commands.into_iter().map(of_command)).collect()
}

fn page(command: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    let version = concat!("fastworker ", env!("CARGO_PKG_VERSION"));
    Page::new(command).source(version).manual("fastworker").render(&mut text)?;
    // It has no better name for what stands below a command's help.
    Ok(String::from_utf8_lossy(&text).replace("\n.SH EXTRA\n", "\n.SH NOTES\n"))
}
