//! Tests against a control plane with too many parked requests: it replies to further ones immediately.

use super::*;
use crate::{
    clock::Timestamp,
    config::{Address, MANAGEMENT_OFFSET},
    json::Json,
    protocol::{Submitted, codec},
    task::{SerializationFormat, Task, TaskPriority, TaskStatus},
    transport::{self, Peer, Rejection, Server, Service, Transport as _, nng::Nng},
};

/// Replies to each lookup immediately: the task has not ended.
#[derive(Default)]
struct Full {
    lookups: AtomicUsize,
}

impl Service for Full {
    fn request(&self, _from: Peer, body: &[u8], reply: transport::ReplyHandle) {
        let response = match codec::decode::<Request>(body) {
            Ok(Request::Submit(submit)) => Reply::Submitted(vec![Submitted::Accepted; submit.tasks.len()]),
            Ok(Request::Lookup(lookup)) => {
                self.lookups.fetch_add(1, Ordering::SeqCst);
                Reply::Found(lookup.ids.into_iter().map(|id| Found::Live(Box::new(live(id)))).collect())
            }
            other => panic!("{other:?}"),
        };
        reply.send(&codec::encode(SerializationFormat::Json, &response));
    }

    fn refuse(&self, _body: &[u8], _why: Rejection) -> Vec<u8> {
        Vec::new()
    }

    fn disconnected(&self, _peer: Peer) {}
}

fn live(id: TaskId) -> Task {
    Task {
        id,
        name: "add".into(),
        args: Json::empty_array(),
        kwargs: Json::empty_object(),
        priority: TaskPriority::Normal,
        created_at: Timestamp::now(),
        started_at: None,
        completed_at: None,
        status: TaskStatus::Pending,
        result: None,
        error: None,
        attempt: 0,
        progress: None,
        error_kind: None,
        worker_id: None,
        due_at: None,
        offered: true,
        unknown_until: None,
        module_version: None,
        usage: None,
        callback: None,
        metadata: Json::empty_object(),
    }
}

/// Serves at a free port; none if another process binds it first.
fn serve(full: &Arc<Full>) -> Option<(Address, String, Box<dyn Server>)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let base: Address = format!("tcp://127.0.0.1:{}", port - MANAGEMENT_OFFSET).parse().expect("an address");
    let address = base.plus(MANAGEMENT_OFFSET).expect("a port").to_string();
    let server = Nng.serve(&address, 16, Arc::clone(full) as Arc<dyn Service>).ok()?;
    Some((base, address, server))
}

#[tokio::test]
async fn a_lookup_that_returns_early_is_repeated_after_a_pause() {
    let full = Arc::new(Full::default());
    // Another process may bind the free port first.
    let (base, address, _server) = (0..100).find_map(|_| serve(&full)).expect("a free port");
    let wait = Duration::from_secs(3);
    let client = Client::builder().control_plane_address(base.clone()).timeout(wait).build();
    let caller = Nng.connect(&address).expect("an address");
    let connection = Connection::new(caller, base, None, Arc::default());
    *lock(&client.0.connection) = Some(Arc::new(connection));
    client.0.stopped.store(false, Ordering::SeqCst);

    let run = client.run(NewTask::new("add")).await;
    assert!(matches!(run, Err(ClientError::TimedOut { .. })), "{run:?}");
    let requests = full.lookups.swap(0, Ordering::SeqCst);
    assert!((1..=20).contains(&requests), "sent {requests} requests");
    let found = client.lookup(&TaskId::new(), wait).await;
    assert!(matches!(found, Ok(Found::Live(_))), "{found:?}");
    let requests = full.lookups.load(Ordering::SeqCst);
    assert!((1..=20).contains(&requests), "sent {requests} requests");
}
