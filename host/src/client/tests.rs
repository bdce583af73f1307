//! Tests of the client that need no server.

use super::{single::SINGLE_MAX, *};
use crate::config::{Address, MANAGEMENT_OFFSET};

fn disconnected(timeout: Duration) -> Client {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let base: Address = format!("tcp://127.0.0.1:{}", port - MANAGEMENT_OFFSET).parse().expect("an address");
    let client = Client::builder().control_plane_address(base.clone()).timeout(timeout).retries(100).build();
    let caller = connection::dial(&base, client.0.config.serialization_format).expect("an address");
    let connection = Connection::new(caller, base, None, Arc::default());
    *lock(&client.0.connection) = Some(Arc::new(connection));
    client.0.stopped.store(false, Ordering::SeqCst);
    client
}

#[tokio::test]
async fn without_a_control_plane_each_call_fails_within_its_timeout() {
    let timeout = Duration::from_millis(200);
    let client = disconnected(timeout);
    let started = Instant::now();
    let task = |_| client.run(NewTask::new("add"));
    let runs = futures::future::join_all((0..SINGLE_MAX + 2).map(task));
    let (runs, sent, listed) = tokio::join!(runs, client.send(NewTask::new("add")), client.list_tasks());
    let errors = runs.into_iter().map(Result::err).chain([sent.err(), listed.err()]);
    for error in errors {
        assert!(matches!(error, Some(ClientError::Unreachable { .. })), "{error:?}");
    }
    assert!(started.elapsed() < timeout + Duration::from_secs(20), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn stopping_the_client_ends_every_wait() {
    let client = disconnected(Duration::MAX);
    let id = TaskId::new();
    let twice = NewTask::new("add");
    let stop = async {
        tokio::task::yield_now().await;
        client.stop();
    };
    let (run, many, found, reports, ()) = tokio::join!(
        client.run(NewTask::new("add")),
        client.submit_many(vec![twice.clone(), twice]),
        client.lookup(&id, Duration::MAX),
        client.follow(&id, 0, Duration::MAX),
        stop
    );
    let many = many.expect("one result for each").into_iter().map(Result::err);
    for error in many.chain([run.err(), found.err(), reports.err()]) {
        assert!(matches!(error, Some(ClientError::Stopped)), "{error:?}");
    }
}

#[tokio::test]
async fn a_batch_with_one_task_that_is_too_large_is_one_error() {
    let args = crate::json::Json::of(&["x".repeat(PAYLOAD_MAX)]).expect("JSON");
    let tasks = vec![NewTask::new("add"), NewTask { args, ..NewTask::new("add") }];
    let many = disconnected(Duration::from_secs(1)).submit_many(tasks).await;
    assert!(matches!(many, Err(ClientError::TooLarge { .. })));
}
