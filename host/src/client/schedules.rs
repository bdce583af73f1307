//! What a client can ask about schedules.

use super::{Client, ClientError};
use crate::{
    protocol::{NewSchedule, Reply, Request, ScheduleInfo, ScheduleRequest},
    task::TaskId,
};

/// The schedules of a control plane. From [`Client::schedules`].
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'a>(&'a Client);

impl Client {
    /// The schedules: what the control plane submits by itself.
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }
}

/// What to do with another schedule of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Leave it, and refuse the new one.
    Keep,
    /// Put the new one in its place.
    Replace,
}

impl Schedules<'_> {
    /// Adds a schedule. One of the same name and content is left as it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there can be no such schedule, or there is another one of its
    /// name that is kept.
    pub async fn add(&self, schedule: NewSchedule, on_conflict: OnConflict) -> Result<ScheduleInfo, ClientError> {
        let replace = on_conflict == OnConflict::Replace;
        let schedule = Box::new(schedule);
        match self.ask(ScheduleRequest::Add { schedule, replace }).await?.pop() {
            Some(added) => Ok(added),
            None => Err(self.0.0.confused()),
        }
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn list(&self) -> Result<Vec<ScheduleInfo>, ClientError> {
        self.ask(ScheduleRequest::List).await
    }

    /// Lets a schedule submit nothing until it is resumed. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn pause(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.ask(ScheduleRequest::Pause(name.to_owned())).await?.pop())
    }

    /// Lets a schedule go on. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn resume(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.ask(ScheduleRequest::Resume(name.to_owned())).await?.pop())
    }

    /// Submits the task of a schedule now, beside its times, and gives the task's id. None if there
    /// is no schedule of that name.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered, or the task was not taken.
    pub async fn trigger(&self, name: &str) -> Result<Option<TaskId>, ClientError> {
        let task_id = TaskId::new();
        let trigger = ScheduleRequest::Trigger { name: name.to_owned(), task_id: task_id.clone() };
        Ok(self.ask(trigger).await?.pop().map(|_| task_id))
    }

    /// Forgets a schedule; what it submitted goes on. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it comes from a module: pause it instead.
    pub async fn remove(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.ask(ScheduleRequest::Remove(name.to_owned())).await?.pop())
    }

    async fn ask(&self, request: ScheduleRequest) -> Result<Vec<ScheduleInfo>, ClientError> {
        let inner = &self.0.0;
        match inner.unless_stopped(inner.ask(&Request::Schedule(request))).await? {
            Reply::Schedules(schedules) => Ok(schedules),
            _ => Err(inner.confused()),
        }
    }
}
