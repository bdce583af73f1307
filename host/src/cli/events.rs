//! `fastworker events`

use std::{pin::pin, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{CliError, CommandResult, ConnectionOptions, complete, parse_bool, parse_number, render};
use crate::{
    client::{Client, ClientError},
    clock::Timestamp,
    protocol::{Event, EventKind, Events},
};

/// Maximum time that the control plane may hold a request until there are events.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before the next request after a refusal.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Time without a reply after which a note says that the control plane is not responding.
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct EventsCommand {
    /// Keep printing new events until interrupted
    #[arg(long, env = "FASTWORKER_EVENTS_FOLLOW", value_parser = parse_bool)]
    follow: bool,
    /// Only events after this number
    #[arg(long, env = "FASTWORKER_AFTER", value_name = "NUMBER", default_value = "0",
          value_parser = parse_number::<u64, 0, { u64::MAX }>)]
    after: u64,
    /// Only this kind of event, such as task.failure, or all kinds of a group, such as task or worker. Takes
    /// several values, and can be repeated
    #[arg(long, env = "FASTWORKER_KIND", value_name = "KIND", num_args = 1.., value_delimiter = ',',
          value_parser = parse_kinds, add = ArgValueCandidates::new(complete::event_kinds))]
    kind: Vec<KindSelector>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
The control plane keeps the newest 4096 events, numbered from 1. With --json, each is printed as one line. \
--follow reconnects when the control plane restarts; event numbering then restarts at 1. Ctrl-C ends --follow with exit \
code 130.";

/// The kinds of events that one value of `--kind` selects.
type KindSelector = Vec<EventKind>;

impl EventsCommand {
    pub(super) fn run(self) -> CommandResult {
        let kinds = self.kind.concat();
        let mut printer =
            EventPrinter { kinds, json: self.connection.json, after: self.after, started_at: None, has_printed: false };
        self.connection.run(
            async |client| {
                if self.follow { printer.follow(client).await } else { printer.print_all(client).await }
            },
        )
    }
}

/// Prints the events of a control plane, and stores the number of the last one.
struct EventPrinter {
    kinds: Vec<EventKind>,
    json: bool,
    after: u64,
    started_at: Option<Timestamp>,
    has_printed: bool,
}

impl EventPrinter {
    /// Prints all events that the control plane has stored.
    async fn print_all(&mut self, client: &Client) -> CommandResult {
        let first_after = self.after;
        loop {
            let reply = client.events(self.after, Duration::ZERO).await?;
            if reply.events.is_empty() {
                if !self.has_printed {
                    let is_filtered = !self.kinds.is_empty() || first_after > 0;
                    render::print_note(if is_filtered { "no event matches" } else { "no events" });
                }
                return Ok(0);
            }
            self.print(&reply)?;
        }
    }

    /// Prints events as they happen, without end. Waits while the control plane is unreachable.
    async fn follow(&mut self, client: &Client) -> CommandResult {
        let mut is_disconnected = false;
        loop {
            let mut request = pin!(client.events(self.after, POLL_TIMEOUT));
            let reply = tokio::time::timeout(REPLY_TIMEOUT, &mut request).await;
            if reply.is_err() && !is_disconnected {
                is_disconnected = true;
                render::print_note("the control plane is not responding; waiting");
            }
            let reply = match reply {
                Ok(reply) => reply,
                Err(_) => request.await,
            };
            match reply {
                Ok(reply) if self.is_other_control_plane(&reply) => {
                    render::print_note("the control plane has restarted; event numbering restarts at 1");
                    (self.after, self.started_at, is_disconnected) = (0, None, false);
                }
                Ok(reply) => {
                    if is_disconnected {
                        is_disconnected = false;
                        render::print_note("the control plane is responding again");
                    }
                    self.print(&reply)?;
                }
                Err(ClientError::Unreachable { .. }) => {}
                // A stopping control plane refuses requests until it has closed its sockets.
                Err(ClientError::Refused(_)) if self.started_at.is_some() => {
                    if !is_disconnected {
                        is_disconnected = true;
                        render::print_note("the control plane is stopping; waiting for it to restart");
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the reply comes from another control plane than the previous one.
    fn is_other_control_plane(&self, reply: &Events) -> bool {
        self.started_at.is_some() && reply.began != self.started_at
    }

    fn print(&mut self, reply: &Events) -> Result<(), CliError> {
        if reply.missed > 0 && self.started_at.is_some() {
            render::print_note(&format!("missed {} events (already discarded)", reply.missed));
        }
        let is_selected = |event: &&Event| self.kinds.is_empty() || self.kinds.contains(&event.kind);
        let selected: Vec<&Event> = reply.events.iter().filter(is_selected).collect();
        self.has_printed |= !selected.is_empty();
        render::print_events(selected, self.json)?;
        self.after = reply.last;
        self.started_at = reply.began;
        Ok(())
    }
}

/// Parses an event kind, or a group of kinds.
fn parse_kinds(text: &str) -> Result<KindSelector, String> {
    let is_named = |kind: &EventKind| {
        let name = kind.as_str();
        name == text || name.split_once('.').is_some_and(|(group, _)| group == text)
    };
    let kinds: KindSelector = EventKind::ALL.into_iter().filter(is_named).collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let names = EventKind::ALL.map(|kind| kind.to_string()).join(", ");
    Err(format!("choose one of {names}, or the word before the dot for all kinds of a group"))
}
