//! What fits into one frame, counted before it is written.
//!
//! Apart because a frame over the limit is not sent, so the counting must never be too low: texts count
//! as JSON writes them, which is the longer of the two ways.

use std::collections::VecDeque;

use crate::{
    protocol::{Ended, FRAME_TARGET, LeaseId},
    task::{ErrorKind, Failure, FollowUp, Outcome, Report},
    transport::PAYLOAD_MAX,
};

/// What every item of a frame takes beyond its documents and texts, at most.
const ITEM_BYTES: usize = 512;

pub(super) fn not_begun(lease: LeaseId) -> Ended {
    Ended { lease, outcome: None, ran_us: 0, version: None, reports: Vec::new() }
}

/// Bytes of a text in a frame: JSON writes a control character in six.
fn text_size(text: &str) -> usize {
    let size = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(size).sum()
}

/// About how many bytes a report takes in a frame.
pub(super) fn report_size(report: &Report) -> usize {
    let text = match report {
        Report::Log { message, .. } => message,
        Report::Progress(progress) => &progress.message,
    };
    text_size(text) + ITEM_BYTES
}

/// About how many bytes it takes in a frame.
pub(super) fn size(ended: &Ended) -> usize {
    let outcome = match &ended.outcome {
        Some(Outcome::Success { result, follow_ups }) => {
            let follow_up = |task: &FollowUp| {
                text_size(&task.name) + task.args.as_str().len() + task.kwargs.as_str().len() + ITEM_BYTES
            };
            result.as_str().len() + follow_ups.iter().map(follow_up).sum::<usize>()
        }
        Some(Outcome::Failure(failure)) => text_size(&failure.message),
        Some(Outcome::Stopped) | None => 0,
    };
    outcome + ended.reports.iter().map(report_size).sum::<usize>() + ITEM_BYTES
}

/// Sees to it that an outcome fits into a frame: without its last reports, or else as a failure.
pub(super) fn fit(mut ended: Ended) -> Ended {
    if size(&ended) > PAYLOAD_MAX {
        ended.reports.clear();
    }
    if size(&ended) > PAYLOAD_MAX { cut_down(ended) } else { ended }
}

/// What is left of an outcome that does not fit into a frame.
pub(super) fn cut_down(ended: Ended) -> Ended {
    let too_much = |_| {
        let message = format!("the result and the follow-up tasks are over the limit of {PAYLOAD_MAX} bytes together");
        Outcome::Failure(Failure::new(ErrorKind::OutputLimit, message))
    };
    Ended { outcome: ended.outcome.map(too_much), reports: Vec::new(), ..ended }
}

/// How many from the front go into one frame: at least one, if there is one.
pub(super) fn frame_len(ended: &VecDeque<Ended>) -> usize {
    let mut bytes = 0;
    let fits = ended.iter().take_while(|one| {
        bytes += size(one);
        bytes <= FRAME_TARGET
    });
    fits.count().max(1).min(ended.len())
}

/// Takes these.
pub(super) fn take_frame(ended: &mut VecDeque<Ended>) -> Vec<Ended> {
    ended.drain(..frame_len(ended)).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        json::Json,
        protocol::{Work, WorkerRequest, codec},
        task::{LogLevel, SerializationFormat},
        transport::FRAME_MAX,
    };

    fn said(text: &str) -> Report {
        Report::Log { level: LogLevel::Info, message: text.to_owned() }
    }

    fn ended(result: usize, reports: Vec<Report>) -> Ended {
        let result = Json::of(&"x".repeat(result)).expect("JSON");
        let outcome = Some(Outcome::Success { result, follow_ups: Vec::new() });
        Ended { outcome, reports, ..not_begun(LeaseId(u64::MAX)) }
    }

    fn frame(ended: Ended) -> usize {
        let work = Work { worker: Uuid::nil(), slot: 0, sequence: 1, ended: vec![ended], capacity: 1 };
        let formats = [SerializationFormat::Json, SerializationFormat::Postcard];
        formats
            .map(|format| codec::encode(format, &WorkerRequest::Work(work.clone())).len())
            .into_iter()
            .max()
            .expect("two")
    }

    #[test]
    fn an_outcome_fits_into_a_frame_whatever_its_task_logged() {
        let line = "\u{1}".repeat(16 << 10);
        let logged = || vec![said(&line); 64];
        for mib in [1, 9, 10, 11, 15] {
            let fits = fit(ended(mib << 20, logged()));
            assert!(matches!(fits.outcome, Some(Outcome::Success { .. })), "{mib} MiB");
            assert_eq!(fits.reports.is_empty(), mib >= 10, "{mib} MiB");
            assert!(frame(fits) <= FRAME_MAX - 64, "{mib} MiB");
        }
        let beyond = fit(ended(17 << 20, logged()));
        assert!(matches!(&beyond.outcome, Some(Outcome::Failure(failure)) if failure.kind == ErrorKind::OutputLimit));
        assert!(frame(beyond) < 1_000);
    }

    #[test]
    fn a_text_is_counted_as_json_writes_it() {
        let every: String = (0..300).filter_map(char::from_u32).collect();
        let written = serde_json::to_string(&every).expect("JSON").len() - 2;
        // Some control characters have a short form.
        assert!((written..written + 30).contains(&text_size(&every)), "{written}");
    }
}
