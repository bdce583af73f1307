//! Example: tasks can have schedules, at intervals or by cron patterns.

use fastworker_guest::{context, info, task};

/// Runs every ten seconds, and returns the id of the task.
#[task(every = "10s")]
fn tick() -> String {
    info!("tick");
    context::task_id()
}

/// Runs three times.
#[task(every = "200ms", count = 3)]
fn countdown() {
    info!("tick");
}

/// Reports on working days at nine, local time. If the previous report has not ended, one run is queued.
#[task(cron = "0 9 * * MON-FRI", tz = "Europe/Paris", overlap = "queue")]
fn morning_report(title: Option<&str>) -> String {
    format!("{}: all is well", title.unwrap_or("Report"))
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing;

    use super::*;

    #[test]
    fn a_scheduled_task_needs_no_arguments() {
        assert_eq!(morning_report(None), "Report: all is well");
        assert_eq!(testing::call("morning_report", "[]", "{}").as_deref(), Ok("\"Report: all is well\""));
    }

    #[test]
    fn the_attribute_contains_the_schedule() {
        let policy = |name: &str| testing::tasks().into_iter().find(|task| task.name == name).map(|task| task.policy);
        assert_eq!(policy("countdown"), Some(r#"{"every":0.2,"count":3}"#));
        let report = r#"{"cron":"0 9 * * MON-FRI","tz":"Europe/Paris","overlap":"queue"}"#;
        assert_eq!(policy("morning_report"), Some(report));
    }
}
