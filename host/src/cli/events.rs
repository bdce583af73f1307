//! `fastworker events`

use std::{pin::pin, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Connection, Failure, Outcome, complete, number, render, switch};
use crate::{
    client::{Client, ClientError},
    clock::Timestamp,
    protocol::{Event, EventKind, Events},
};

/// How long one question is parked.
const WAIT: Duration = Duration::from_secs(2);
/// How soon to ask again after a refusal.
const PAUSE: Duration = Duration::from_millis(500);
/// An answer that is so late means that the control plane is away.
const LATE: Duration = Duration::from_secs(4);

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ShowEvents {
    /// Go on showing what happens, until interrupted
    #[arg(long, env = "FASTWORKER_EVENTS_FOLLOW", value_parser = switch)]
    follow: bool,
    /// Show only events after this number
    #[arg(long, env = "FASTWORKER_AFTER", value_name = "NUMBER", default_value = "0",
          value_parser = number::<u64, 0, { u64::MAX }>)]
    after: u64,
    /// Show only this kind of event, such as task.failure, or all those of task, worker and so on.
    /// Takes several, and can be repeated
    #[arg(long, env = "FASTWORKER_KIND", value_name = "KIND", num_args = 1.., value_delimiter = ',',
          value_parser = kinds, add = ArgValueCandidates::new(complete::event_kinds))]
    kind: Vec<Kinds>,
    #[command(flatten)]
    connection: Connection,
}

const AFTER_HELP: &str = "\
The control plane keeps the newest 4096 events, numbered from 1. With --json each is printed as one line. \
With --follow a control plane that restarts is found again, and its events begin at 1. Ctrl-C ends --follow \
with exit code 130.";

/// Kinds of events that one word names.
type Kinds = Vec<EventKind>;

impl ShowEvents {
    pub(super) fn run(self) -> Outcome {
        let kinds = self.kind.concat();
        let mut reader = Reader { kinds, json: self.connection.json, after: self.after, began: None, has_shown: false };
        self.connection.run(
            async |client| {
                if self.follow { reader.follow(client).await } else { reader.read_all(client).await }
            },
        )
    }
}

/// Somebody who reads events, and how far they are.
struct Reader {
    kinds: Kinds,
    json: bool,
    after: u64,
    began: Option<Timestamp>,
    has_shown: bool,
}

impl Reader {
    /// Shows what there is.
    async fn read_all(&mut self, client: &Client) -> Outcome {
        let begin = self.after;
        loop {
            let told = client.events(self.after, Duration::ZERO).await?;
            if told.events.is_empty() {
                if !self.has_shown {
                    let is_narrowed = !self.kinds.is_empty() || begin > 0;
                    render::note(if is_narrowed { "no event matches" } else { "no events" });
                }
                return Ok(0);
            }
            self.show(&told)?;
        }
    }

    /// Shows what happens, for good. A control plane that is away is waited for.
    async fn follow(&mut self, client: &Client) -> Outcome {
        let mut away = false;
        loop {
            let mut answer = pin!(client.events(self.after, WAIT));
            let prompt = tokio::time::timeout(LATE, &mut answer).await;
            if prompt.is_err() && !away {
                away = true;
                render::note("the control plane does not answer: waiting for it");
            }
            let told = match prompt {
                Ok(told) => told,
                Err(_) => answer.await,
            };
            match told {
                Ok(told) if self.is_another(&told) => {
                    render::note("the control plane has restarted: its events begin at 1");
                    (self.after, self.began, away) = (0, None, false);
                }
                Ok(told) => {
                    if away {
                        away = false;
                        render::note("the control plane answers again");
                    }
                    self.show(&told)?;
                }
                Err(ClientError::Unreachable { .. }) => {}
                // One that stops refuses what waits, and answers so until it is gone.
                Err(ClientError::Refused(_)) if self.began.is_some() => {
                    if !away {
                        away = true;
                        render::note("the control plane is stopping: waiting for the next one");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether these are the events of another control plane than those before.
    fn is_another(&self, told: &Events) -> bool {
        self.began.is_some() && told.began != self.began
    }

    fn show(&mut self, told: &Events) -> Result<(), Failure> {
        if told.missed > 0 && self.began.is_some() {
            render::note(&format!("{} events are no longer kept", told.missed));
        }
        let is_wanted = |event: &&Event| self.kinds.is_empty() || self.kinds.contains(&event.kind);
        let wanted: Vec<&Event> = told.events.iter().filter(is_wanted).collect();
        self.has_shown |= !wanted.is_empty();
        render::events(wanted, self.json)?;
        self.after = told.last;
        self.began = told.began;
        Ok(())
    }
}

/// Reads a kind, or the first word of several kinds.
fn kinds(text: &str) -> Result<Kinds, String> {
    let is_named = |kind: &EventKind| {
        let name = kind.as_str();
        name == text || name.split_once('.').is_some_and(|(family, _)| family == text)
    };
    let kinds: Kinds = EventKind::ALL.into_iter().filter(is_named).collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let names = EventKind::ALL.map(|kind| kind.to_string()).join(", ");
    Err(format!("choose one of {names}, or the word before the dot for all of its kinds"))
}
