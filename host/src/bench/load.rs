//! Submits tasks through a client, and verifies each result.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{BenchError, TASK, baselines::IN_FLIGHT};
use crate::{
    client::Client,
    json::Json,
    task::{NewTask, TaskResult},
};

/// Submits tasks sequentially for a sample window. Returns the seconds of each from submission to result.
pub(super) async fn sequential(client: &Client, window: Duration) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + window;
    let (mut samples, mut x) = (Vec::new(), 0);
    while Instant::now() < until {
        x += 1;
        let submitted = Instant::now();
        let result = client.run(task(x)).await?;
        samples.push(submitted.elapsed().as_secs_f64());
        check(x, &result)?;
    }
    Ok(samples)
}

/// Submits tasks with many in flight for a sample window. Returns tasks per second.
pub(super) async fn in_flight(client: &Client, window: Duration) -> Result<f64, BenchError> {
    let started = Instant::now();
    let submit_repeatedly = async |client_index: u64| -> Result<u32, BenchError> {
        let mut count = 0;
        while started.elapsed() < window {
            let x = client_index * 1_000_000 + u64::from(count);
            check(x, &client.run(task(x)).await?)?;
            count += 1;
        }
        Ok(count)
    };
    let counts = join_all((0..IN_FLIGHT as u64).map(submit_repeatedly)).await;
    let count: u32 = counts.into_iter().sum::<Result<u32, BenchError>>()?;
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Submits `count` tasks in one bulk. Returns tasks per second.
pub(super) async fn bulk(client: &Client, count: usize) -> Result<f64, BenchError> {
    let tasks = (0..count as u64).map(task).collect();
    let started = Instant::now();
    let results = client.submit_many(tasks).await?;
    let elapsed = started.elapsed();
    let mut ended = 0.0;
    for (x, result) in (0..).zip(results) {
        let result: Arc<TaskResult> = result?;
        check(x, &result)?;
        ended += 1.0;
    }
    Ok(ended / elapsed.as_secs_f64())
}

fn task(x: u64) -> NewTask {
    let args = Json::of(&(x, 1)).unwrap_or_else(|_| Json::empty_array());
    NewTask { args, ..NewTask::new(TASK) }
}

fn check(x: u64, result: &TaskResult) -> Result<(), BenchError> {
    let actual = result.result.as_ref().map(Json::as_str);
    if actual.is_some_and(|actual| actual.parse() == Ok(x + 1)) {
        return Ok(());
    }
    let actual = actual.or(result.error.as_deref()).unwrap_or("nothing").to_owned();
    Err(BenchError::WrongResult { x, actual })
}
