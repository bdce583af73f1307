//! `fastworker events`

use std::{pin::pin, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{ConnectionOptions, Failure, Outcome, complete, number, render, switch};
use crate::{
    client::{Client, ClientError},
    clock::Timestamp,
    protocol::{Event, EventKind, Events},
};

/// Maximum time that the control plane may hold one request until there are events.
const WAIT: Duration = Duration::from_secs(2);
/// Delay before the next request after a refusal.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Time without a reply after which the control plane counts as unreachable.
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ShowEvents {
    /// Keep printing new events until interrupted
    #[arg(long, env = "FASTWORKER_EVENTS_FOLLOW", value_parser = switch)]
    follow: bool,
    /// Only events after this number
    #[arg(long, env = "FASTWORKER_AFTER", value_name = "NUMBER", default_value = "0",
          value_parser = number::<u64, 0, { u64::MAX }>)]
    after: u64,
    /// Only this kind of event, such as task.failure, or all kinds of a group, such as task or worker. Takes
    /// several values, and can be repeated
    #[arg(long, env = "FASTWORKER_KIND", value_name = "KIND", num_args = 1.., value_delimiter = ',',
          value_parser = kinds, add = ArgValueCandidates::new(complete::event_kinds))]
    kind: Vec<Kinds>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
The control plane keeps the newest 4096 events, numbered from 1. With --json, each is printed as one line. \
--follow reconnects when the control plane restarts; its events then begin at 1. Ctrl-C ends --follow with exit \
code 130.";

/// The kinds of events that one word of the command line selects.
type Kinds = Vec<EventKind>;

impl ShowEvents {
    pub(super) fn run(self) -> Outcome {
        let kinds = self.kind.concat();
        let mut printer =
            EventPrinter { kinds, json: self.connection.json, after: self.after, began: None, has_shown: false };
        self.connection.run(
            async |client| {
                if self.follow { printer.follow(client).await } else { printer.print_all(client).await }
            },
        )
    }
}

/// Prints the events of a control plane, and remembers the last one printed.
struct EventPrinter {
    kinds: Kinds,
    json: bool,
    after: u64,
    began: Option<Timestamp>,
    has_shown: bool,
}

impl EventPrinter {
    /// Prints all events that the control plane has kept.
    async fn print_all(&mut self, client: &Client) -> Outcome {
        let begin = self.after;
        loop {
            let reply = client.events(self.after, Duration::ZERO).await?;
            if reply.events.is_empty() {
                if !self.has_shown {
                    let is_filtered = !self.kinds.is_empty() || begin > 0;
                    render::note(if is_filtered { "no event matches" } else { "no events" });
                }
                return Ok(0);
            }
            self.print(&reply)?;
        }
    }

    /// Prints events as they happen, without end. Waits while the control plane is unreachable.
    async fn follow(&mut self, client: &Client) -> Outcome {
        let mut is_away = false;
        loop {
            let mut request = pin!(client.events(self.after, WAIT));
            let in_time = tokio::time::timeout(REPLY_TIMEOUT, &mut request).await;
            if in_time.is_err() && !is_away {
                is_away = true;
                render::note("the control plane does not answer: waiting for it");
            }
            let reply = match in_time {
                Ok(reply) => reply,
                Err(_) => request.await,
            };
            match reply {
                Ok(reply) if self.is_other_control_plane(&reply) => {
                    render::note("the control plane has restarted: its events begin at 1");
                    (self.after, self.began, is_away) = (0, None, false);
                }
                Ok(reply) => {
                    if is_away {
                        is_away = false;
                        render::note("the control plane answers again");
                    }
                    self.print(&reply)?;
                }
                Err(ClientError::Unreachable { .. }) => {}
                // A stopping control plane refuses requests until it is gone.
                Err(ClientError::Refused(_)) if self.began.is_some() => {
                    if !is_away {
                        is_away = true;
                        render::note("the control plane is stopping: waiting for it to restart");
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the reply comes from another control plane than the previous one.
    fn is_other_control_plane(&self, reply: &Events) -> bool {
        self.began.is_some() && reply.began != self.began
    }

    fn print(&mut self, reply: &Events) -> Result<(), Failure> {
        if reply.missed > 0 && self.began.is_some() {
            render::note(&format!("{} events are no longer kept", reply.missed));
        }
        let is_wanted = |event: &&Event| self.kinds.is_empty() || self.kinds.contains(&event.kind);
        let wanted: Vec<&Event> = reply.events.iter().filter(is_wanted).collect();
        self.has_shown |= !wanted.is_empty();
        render::events(wanted, self.json)?;
        self.after = reply.last;
        self.began = reply.began;
        Ok(())
    }
}

/// Reads an event kind, or the group of several kinds.
fn kinds(text: &str) -> Result<Kinds, String> {
    let is_named = |kind: &EventKind| {
        let name = kind.as_str();
        name == text || name.split_once('.').is_some_and(|(group, _)| group == text)
    };
    let kinds: Kinds = EventKind::ALL.into_iter().filter(is_named).collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let names = EventKind::ALL.map(|kind| kind.to_string()).join(", ");
    Err(format!("choose one of {names}, or the word before the dot for all kinds of a group"))
}
