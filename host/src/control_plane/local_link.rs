//! The link of the control plane's own worker: enters the state directly, without a socket.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{core::Core, handler::serve_worker, reply_to::ReplyTo};
use crate::{
    protocol::{WAIT_MAX, WorkerReply, WorkerRequest},
    subworker::link::{Link, WorkConnection},
    transport::CallError,
};

/// A link to the control plane in this process.
#[derive(Debug)]
pub struct LocalLink(pub Arc<Core>);

impl LocalLink {
    fn post(&self, request: &WorkerRequest) -> mpsc::Receiver<WorkerReply> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.enter(|state, now| serve_worker(state, now, request.clone(), None, ReplyTo::Local(sender)));
        receiver
    }
}

fn wait(receiver: &mpsc::Receiver<WorkerReply>, limit: Duration) -> Result<WorkerReply, CallError> {
    let address = || "the control plane in this process".to_owned();
    receiver.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => CallError::TimedOut { address: address(), waited: limit },
        mpsc::RecvTimeoutError::Disconnected => CallError::Closed { address: address() },
    })
}

impl Link for LocalLink {
    fn request(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError> {
        wait(&self.post(request), limit)
    }

    fn connect(&self) -> Box<dyn WorkConnection + '_> {
        Box::new(self)
    }

    fn rediscover(&self) {}

    fn modules_loaded(&self) {
        self.0.enter(|state, _| state.modules_loaded());
    }

    fn work_timeout(&self, _has_outcomes: bool) -> Duration {
        WAIT_MAX + Duration::from_secs(5)
    }

    fn beat_timeout(&self) -> Duration {
        // Its own worker has no timeout at the control plane, so the heartbeat only waits for commands.
        Duration::from_hours(1)
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl WorkConnection for &LocalLink {
    fn request(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        on_sent: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError> {
        let receiver = self.post(request);
        on_sent();
        wait(&receiver, limit)
    }
}
