//! Estimates how many outcomes and reports fit into one frame.
//!
//! A frame over the limit is not sent, so an estimate must never be too low: text counts as in JSON, which is
//! the longer of the two codecs.

use std::collections::VecDeque;

use crate::{
    json::Json,
    protocol::{Ended, FRAME_TARGET, LeaseId},
    task::{ErrorKind, Failure, FollowUp, Outcome, Report, Usage},
    transport::PAYLOAD_MAX,
};

/// Maximum size of an item in a frame without its documents and strings, in bytes.
const ITEM_BYTES: usize = 512;

/// The entry of a lease that is returned without having run.
pub(super) fn not_started(lease: LeaseId) -> Ended {
    let usage = Usage::default();
    Ended { lease, outcome: None, ran_us: 0, usage, version: None, reports: Vec::new(), metadata: Json::empty_object() }
}

/// Bytes of a string in a frame: a control character takes six in JSON.
fn text_size(text: &str) -> usize {
    let size = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(size).sum()
}

/// Estimated bytes of a report in a frame.
pub(super) fn report_size(report: &Report) -> usize {
    let text = match report {
        Report::Log { message, .. } => message,
        Report::Progress(progress) => &progress.message,
    };
    text_size(text) + ITEM_BYTES
}

/// Estimated bytes of an outcome in a frame.
pub(super) fn size(ended: &Ended) -> usize {
    let outcome = match &ended.outcome {
        Some(Outcome::Success { result, follow_ups }) => {
            let follow_up = |task: &FollowUp| {
                let documents = [&task.args, &task.kwargs, &task.metadata].map(|document| document.as_str().len());
                text_size(&task.name) + documents.iter().sum::<usize>() + ITEM_BYTES
            };
            result.as_str().len() + follow_ups.iter().map(follow_up).sum::<usize>()
        }
        Some(Outcome::Failure(failure)) => text_size(&failure.message),
        Some(Outcome::Stopped) | None => 0,
    };
    outcome + ended.metadata.as_str().len() + ended.reports.iter().map(report_size).sum::<usize>() + ITEM_BYTES
}

/// Fits an outcome into a frame: drops its reports, or else replaces it by a failure.
pub(super) fn fit(mut ended: Ended) -> Ended {
    if size(&ended) > PAYLOAD_MAX {
        ended.reports.clear();
    }
    if size(&ended) > PAYLOAD_MAX { cut_down(ended) } else { ended }
}

/// Replaces an outcome that does not fit into a frame by a failure.
pub(super) fn cut_down(ended: Ended) -> Ended {
    let failure = |_| {
        let message = format!("the result and the follow-up tasks are over the limit of {PAYLOAD_MAX} bytes together");
        Outcome::Failure(Failure::new(ErrorKind::ResultLimit, message))
    };
    Ended { outcome: ended.outcome.map(failure), reports: Vec::new(), ..ended }
}

/// Number of outcomes from the front that fit into one frame: at least one, if there is one.
pub(super) fn frame_len(ended: &VecDeque<Ended>) -> usize {
    let mut bytes = 0;
    let fits = ended.iter().take_while(|one| {
        bytes += size(one);
        bytes <= FRAME_TARGET
    });
    fits.count().max(1).min(ended.len())
}

/// Takes the outcomes that fit into one frame.
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

    fn log_line(text: &str) -> Report {
        Report::Log { level: LogLevel::Info, message: text.to_owned() }
    }

    fn ended(result: usize, reports: Vec<Report>) -> Ended {
        let result = Json::of(&"x".repeat(result)).expect("JSON");
        let outcome = Some(Outcome::Success { result, follow_ups: Vec::new() });
        Ended { outcome, reports, ..not_started(LeaseId(u64::MAX)) }
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
    fn an_outcome_with_many_logs_fits_into_a_frame() {
        let line = "\u{1}".repeat(16 << 10);
        let logged = || vec![log_line(&line); 64];
        for mib in [1, 9, 10, 11, 15] {
            let fits = fit(ended(mib << 20, logged()));
            assert!(matches!(fits.outcome, Some(Outcome::Success { .. })), "{mib} MiB");
            assert_eq!(fits.reports.is_empty(), mib >= 10, "{mib} MiB");
            assert!(frame(fits) <= FRAME_MAX - 64, "{mib} MiB");
        }
        let beyond = fit(ended(17 << 20, logged()));
        assert!(matches!(&beyond.outcome, Some(Outcome::Failure(failure)) if failure.kind == ErrorKind::ResultLimit));
        assert!(frame(beyond) < 1_000);
    }

    #[test]
    fn text_counts_as_in_json() {
        let all_chars: String = (0..300).filter_map(char::from_u32).collect();
        let written = serde_json::to_string(&all_chars).expect("JSON").len() - 2;
        // Some control characters have a short form.
        assert!((written..written + 30).contains(&text_size(&all_chars)), "{written}");
    }
}
