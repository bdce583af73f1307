//! Submits tasks through a client, and verifies each result.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{BenchError, TASK, parts::IN_FLIGHT};
use crate::{
    client::Client,
    json::Json,
    task::{NewTask, TaskResult},
};

/// Seconds of each task from submission to result, one after another.
pub(super) async fn sequential(client: &Client, turn: Duration) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + turn;
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

/// Tasks per second with many tasks in flight.
pub(super) async fn in_flight(client: &Client, turn: Duration) -> Result<f64, BenchError> {
    let started = Instant::now();
    let one = async |client_index: u64| -> Result<u32, BenchError> {
        let mut count = 0;
        while started.elapsed() < turn {
            let x = client_index * 1_000_000 + u64::from(count);
            check(x, &client.run(task(x)).await?)?;
            count += 1;
        }
        Ok(count)
    };
    let counts = join_all((0..IN_FLIGHT as u64).map(one)).await;
    let count: u32 = counts.into_iter().sum::<Result<u32, BenchError>>()?;
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Tasks per second when all are submitted at once.
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
    let got = result.result.as_ref().map(Json::as_str);
    if got.is_some_and(|got| got.parse() == Ok(x + 1)) {
        return Ok(());
    }
    let got = got.or(result.error.as_deref()).unwrap_or("nothing").to_owned();
    Err(BenchError::Wrong { x, got })
}
