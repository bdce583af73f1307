//! Schedules under clocks that jump.

use super::*;
use crate::{
    control_plane::state::UNKNOWN_GRACE,
    protocol::ScheduleStatus,
    task::{
        ScheduleSpec, TaskStatus,
        schedule::{Overlap, When},
    },
};

/// Schedules, and both clocks.
struct Story {
    schedules: Schedules,
    now: Now,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a point in time")
}

fn every(seconds: u64) -> ScheduleSpec {
    ScheduleSpec::new(When::Every(secs(seconds)))
}

fn cron(pattern: &str, tz: &str) -> ScheduleSpec {
    ScheduleSpec::new(When::Cron { pattern: pattern.into(), tz: tz.into() })
}

impl Story {
    fn at(text: &str) -> Self {
        Self { schedules: Schedules::default(), now: Now { mono: Moment::from_micros(1), wall: at(text) } }
    }

    fn with(text: &str, spec: ScheduleSpec) -> Self {
        let mut story = Self::at(text);
        story.add("s", spec);
        story
    }

    fn add(&mut self, name: &str, spec: ScheduleSpec) {
        self.schedules.add(self.now, NewSchedule::new(name, "tick", spec), false).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Advances both clocks from wake to wake, up to `span` from now, and returns what was due. Submitted tasks
    /// end immediately with the status `ends`, if any.
    fn run(&mut self, span: Duration, ends: Option<TaskStatus>) -> Vec<(Timestamp, DueAction)> {
        let (until, mut actions) = (self.now.mono + span, Vec::new());
        loop {
            let wake = self.schedules.wake(self.now);
            let next = wake.min(until);
            self.pass(next.since(self.now.mono));
            self.schedules.observe_clocks(self.now);
            while let Some(action) = self.schedules.next_due(self.now) {
                if let DueAction::Run(run) = &action {
                    self.schedules.submitted(self.now, &run.name, &run.task.id, Trigger::Due, ends);
                }
                actions.push((self.now.wall, action));
            }
            if wake >= until {
                return actions;
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = Now { mono: self.now.mono + span, wall: self.now.wall + span };
    }

    /// The times at which tasks are submitted that end immediately.
    fn fired(&mut self, span: Duration) -> Vec<Timestamp> {
        let actions = self.run(span, Some(TaskStatus::Success)).into_iter();
        actions.filter(|(_, action)| matches!(action, DueAction::Run(_))).map(|(at, _)| at).collect()
    }

    fn info(&self) -> ScheduleInfo {
        self.schedules.info(self.now, "s").expect("the schedule")
    }
}

fn skips(actions: &[(Timestamp, DueAction)]) -> Vec<Skip> {
    actions
        .iter()
        .filter_map(|(_, action)| if let DueAction::Skip(_, reason) = action { Some(*reason) } else { None })
        .collect()
}

#[test]
fn a_cron_day_is_complete_when_the_clocks_change() {
    // Paris, from midnight to midnight: 23 hours in March, 25 in October.
    for (midnight, hours) in [("2026-03-28T23:00:00Z", 23), ("2026-10-24T22:00:00Z", 25)] {
        let mut story = Story::at(midnight);
        for (name, pattern) in
            [("minute", "* * * * *"), ("hour", "0 * * * *"), ("night", "30 2 * * *"), ("noon", "0 12 * * SUN")]
        {
            story.add(name, cron(pattern, "Europe/Paris"));
        }
        let actions = story.run(secs(hours * 3_600), Some(TaskStatus::Success));
        assert_eq!(skips(&actions), []);
        let times_of = |schedule: &str| -> Vec<Timestamp> {
            let is_it = |action: &DueAction| matches!(action, DueAction::Run(run) if &*run.name == schedule);
            actions.iter().filter(|(_, action)| is_it(action)).map(|(at, _)| *at).collect()
        };
        assert_eq!((times_of("minute").len() as u64, times_of("hour").len() as u64), (hours * 60, hours), "{midnight}");
        assert_eq!((times_of("night").len(), times_of("noon").len()), (1, 1), "{midnight}");
        let minutes = times_of("minute");
        assert!(minutes.windows(2).all(|pair| pair[1].since(pair[0]) == secs(60)), "{minutes:?}");
        let night = if hours == 23 { at("2026-03-29T01:00:00Z") } else { at("2026-10-25T00:30:00Z") };
        assert_eq!(times_of("night"), [night]);
        let ids: BTreeSet<String> = actions
            .iter()
            .map(|(_, action)| match action {
                DueAction::Run(run) => run.task.id.to_string(),
                DueAction::Skip(..) => panic!("none was skipped"),
            })
            .collect();
        assert_eq!(ids.len(), actions.len(), "every task has its own id");
    }
}

#[test]
fn an_interval_keeps_its_anchor_when_it_is_checked_late() {
    let mut story = Story::with("2026-11-24T12:00:00Z", every(10));
    assert_eq!(story.fired(secs(60)).len(), 6);
    story.pass(Duration::from_millis(34_567));
    let late = story.fired(Duration::ZERO);
    assert_eq!(late, [at("2026-11-24T12:01:34.567Z")], "three times were missed: one run follows");
    assert_eq!(story.fired(secs(10)), [at("2026-11-24T12:01:40Z")]);
}

#[test]
fn a_count_and_an_end_time_finish_a_schedule() {
    let mut story = Story::with("2026-11-24T12:00:00Z", ScheduleSpec { count: Some(3), ..every(10) });
    assert_eq!(story.info().remaining, Some(3));
    assert_eq!(story.fired(secs(3_600)).len(), 3);
    let info = story.info();
    assert_eq!((info.status, info.runs, info.remaining, info.next_run), (ScheduleStatus::Finished, 3, Some(0), None));
    assert_eq!(story.schedules.wake(story.now), Moment::NEVER);

    let until = Some(at("2026-11-24T12:00:30Z"));
    let mut story = Story::with("2026-11-24T12:00:00Z", ScheduleSpec { until, ..every(10) });
    assert_eq!(story.fired(secs(3_600)).last(), Some(&at("2026-11-24T12:00:30Z")), "the end is included");
    assert_eq!(story.info().status, ScheduleStatus::Finished);

    let until = Some(at("2026-11-24T14:59:59Z"));
    let mut story = Story::with("2026-11-24T12:00:00Z", ScheduleSpec { until, ..cron("0 * * * *", "UTC") });
    assert_eq!(story.fired(secs(86_400)), [at("2026-11-24T13:00:00Z"), at("2026-11-24T14:00:00Z")]);
}

#[test]
fn times_are_skipped_while_the_last_task_runs() {
    let mut story = Story::with("2026-11-24T12:00:00Z", every(10));
    let actions = story.run(secs(50), None);
    let DueAction::Run(first) = &actions[0].1 else { panic!("{actions:?}") };
    assert_eq!((actions.len(), skips(&actions)), (5, vec![Skip::Busy; 4]));
    assert_eq!((story.info().runs, story.info().skipped), (1, 4));
    assert_eq!(story.schedules.ended(&first.task.id, TaskStatus::Success), None);
    assert_eq!(story.info().last_status, Some(TaskStatus::Success));
    assert_eq!(story.run(secs(10), None).len(), 1);
}

#[test]
fn with_overlap_queue_one_run_waits_for_the_last_task() {
    let spec = ScheduleSpec { overlap: Overlap::Queue, count: Some(2), ..every(10) };
    let mut story = Story::with("2026-11-24T12:00:00Z", spec);
    let actions = story.run(secs(50), None);
    let DueAction::Run(first) = &actions[0].1 else { panic!("{actions:?}") };
    assert_eq!(skips(&actions), [Skip::Full; 3], "the second waits, and the others are skipped");
    let second = story.schedules.ended(&first.task.id, TaskStatus::Failure).expect("the queued run");
    assert_ne!(second.task.id, first.task.id);
    story.schedules.submitted(story.now, &second.name, &second.task.id, Trigger::Due, None);
    assert_eq!(story.info().status, ScheduleStatus::Finished);
    assert_eq!(story.schedules.ended(&second.task.id, TaskStatus::Success), None, "no run is queued");
    assert!(!story.schedules.has_live());
}

#[test]
fn a_resumed_schedule_keeps_its_interval() {
    let mut story = Story::with("2026-11-24T12:00:00Z", every(10));
    assert!(story.schedules.pause("s") && story.schedules.pause("s") && !story.schedules.pause("t"));
    assert_eq!((story.fired(secs(33)).len(), story.info().status), (0, ScheduleStatus::Paused));
    assert!(story.schedules.resume(story.now, "s") && !story.schedules.resume(story.now, "t"));
    assert_eq!(story.fired(secs(10)), [at("2026-11-24T12:00:40Z")]);
}

#[test]
fn a_run_missed_by_more_than_the_grace_is_skipped_and_reported() {
    let mut story = Story::with("2026-11-24T12:00:00Z", cron("0 * * * *", "UTC"));
    story.pass(secs(3_600 * 5 + 59));
    assert_eq!(story.fired(Duration::ZERO), [story.now.wall], "17:00 is 59 s ago, and of five times it is one");
    story.pass(secs(3_600 + 61));
    let actions = story.run(Duration::ZERO, None);
    assert_eq!(skips(&actions), [Skip::Missed(at("2026-11-24T18:00:00Z"))]);
    assert_eq!(story.info().next_run, Some(at("2026-11-24T19:00:00Z")));
}

#[test]
fn a_wall_clock_jump_neither_repeats_nor_stops_runs() {
    let mut story = Story::with("2026-11-24T12:00:30Z", cron("0 * * * *", "UTC"));
    assert_eq!(story.fired(secs(3_600)), [at("2026-11-24T13:00:00Z")]);
    // Back by an hour: 13:00 has run, and is not repeated.
    story.now.wall = at("2026-11-24T12:00:40Z");
    assert_eq!(story.fired(secs(7_200)), [at("2026-11-24T14:00:00Z")]);
    // Ten years ahead for two minutes: at most one run, and then the schedule continues as before.
    story.now.wall = at("2036-11-24T14:30:00Z");
    assert_eq!(story.fired(secs(120)), []);
    story.now.wall = at("2026-11-24T14:30:00Z");
    assert_eq!(story.fired(secs(3_600)), [at("2026-11-24T15:00:00Z")]);
    assert_eq!(story.fired(secs(3 * 3_600)).len(), 3);

    // Intervals do not depend on it.
    let mut story = Story::with("2026-11-24T12:00:00Z", every(10));
    for wall in ["2036-01-01T00:00:00Z", "1999-01-01T00:00:00Z"] {
        story.now.wall = at(wall);
        assert_eq!(story.fired(secs(60)).len(), 6, "{wall}");
    }
}

#[test]
fn a_clock_jump_is_noticed_within_a_minute() {
    let mut story = Story::with("2026-11-24T12:00:00Z", cron("0 0 1 1 *", "UTC"));
    assert!(story.schedules.wake(story.now).since(story.now.mono) <= CLOCK_CHECK_INTERVAL);
    story.now.wall = at("2026-12-31T23:59:30Z");
    assert_eq!(story.fired(CLOCK_CHECK_INTERVAL), [at("2027-01-01T00:00:00Z")]);
}

#[test]
fn an_identical_schedule_is_accepted_and_another_needs_replace() {
    let mut story = Story::with("2026-11-24T12:00:00Z", every(10));
    story.fired(secs(30));
    story.add("s", every(10));
    assert_eq!(story.info().runs, 3, "it is the same schedule");
    let other = NewSchedule::new("s", "tock", every(20));
    assert!(matches!(story.schedules.add(story.now, other.clone(), false), Err(ScheduleError::Exists(_))));
    assert_eq!(story.info().schedule.task_name, "tick");
    story.schedules.add(story.now, other, true).expect("it is replaced");
    assert_eq!((story.info().schedule.task_name.as_str(), story.info().runs), ("tock", 0));
    assert_eq!(story.fired(secs(60)).len(), 3);
    assert!(story.schedules.remove(story.now, "s").expect("it may be removed").is_some());
    assert!(story.schedules.remove(story.now, "s").expect("it may be removed").is_none());
    assert!(story.schedules.is_empty() && story.schedules.wake(story.now) == Moment::NEVER);
}

#[test]
fn a_refused_schedule_has_a_reason() {
    let mut story = Story::at("2026-11-24T12:00:00Z");
    let plain = NewSchedule::new("s", "tick", every(10));
    let json = |text: &str| crate::json::Json::parse(text).expect("JSON");
    for (wrong, words) in [
        (NewSchedule { name: String::new(), ..plain.clone() }, "a schedule's name"),
        (NewSchedule { task_name: "a\nb".into(), ..plain.clone() }, "a task name"),
        (NewSchedule { args: json("{}"), ..plain.clone() }, "JSON array"),
        (
            NewSchedule { args: json(&format!("[\"{}\"]", "x".repeat(SCHEDULE_BYTES_MAX))), ..plain.clone() },
            "bytes together",
        ),
        (NewSchedule { spec: cron("* * *", "UTC"), ..plain.clone() }, "not a cron pattern"),
    ] {
        let why = story.schedules.add(story.now, wrong, true).expect_err("a refusal").to_string();
        assert!(why.contains(words), "{why}");
    }
    assert!(story.schedules.is_empty());
}

#[test]
fn the_limit_of_schedules_evicts_only_finished_ones() {
    let mut story = Story::at("2026-11-24T12:00:30Z");
    for number in 0..SCHEDULES_MAX {
        story.add(&format!("s{number}"), cron("*/5 * * * *", "Europe/Paris"));
    }
    let one_more = NewSchedule::new("more", "tick", ScheduleSpec { count: Some(1), ..every(10) });
    assert!(matches!(story.schedules.add(story.now, one_more.clone(), false), Err(ScheduleError::TooMany)));
    assert_eq!(story.fired(secs(3_600)).len(), 12 * SCHEDULES_MAX);
    story.schedules.remove(story.now, "s7").expect("it may be removed");
    story.schedules.add(story.now, one_more, false).expect("there is capacity");
    story.fired(secs(10));
    story.add("another", every(10));
    assert_eq!(story.schedules.len(), SCHEDULES_MAX);
    assert!(story.schedules.info(story.now, "more").is_none(), "its count was used up");
}

#[test]
fn a_module_schedule_exists_as_long_as_a_worker_has_it() {
    let mut story = Story::at("2026-11-24T12:00:00Z");
    let new = |spec| NewSchedule::new("s", "s", spec);
    story.schedules.set_from_module(story.now, new(every(10)), "clock").expect("it is accepted");
    assert_eq!(story.info().source, ScheduleSource::Module("clock".into()));
    assert!(matches!(story.schedules.remove(story.now, "s"), Err(ScheduleError::OfModule { .. })));
    let own = story.schedules.add(story.now, new(every(20)), true);
    assert!(matches!(own, Err(ScheduleError::OfModule { .. })), "{own:?}");

    story.schedules.module_removed(story.now, "s", UNKNOWN_GRACE);
    assert_eq!(story.fired(secs(20)).len(), 2, "its worker may return");
    story.schedules.set_from_module(story.now, new(every(10)), "clock").expect("it is accepted");
    assert_eq!((story.fired(secs(60)).len(), story.info().runs), (6, 8));
    story.schedules.set_from_module(story.now, new(every(30)), "clock").expect("it is accepted");
    assert_eq!(story.fired(secs(60)).len(), 2);
    story.schedules.module_removed(story.now, "s", UNKNOWN_GRACE);
    story.run(UNKNOWN_GRACE + secs(1), None);
    assert!(story.schedules.is_empty());

    // Paused stays paused.
    story.schedules.set_from_module(story.now, new(every(10)), "clock").expect("it is accepted");
    story.schedules.pause("s");
    story.schedules.module_removed(story.now, "s", UNKNOWN_GRACE);
    story.run(UNKNOWN_GRACE + secs(1), None);
    assert_eq!(story.info().status, ScheduleStatus::Absent);
    story.schedules.set_from_module(story.now, new(every(20)), "clock").expect("it is accepted");
    assert_eq!((story.fired(secs(60)).len(), story.info().status), (0, ScheduleStatus::Paused));
    assert!(story.schedules.remove_from_module("s") && story.schedules.is_empty());
}
