//! Requests about schedules.

use super::{Client, ClientError};
use crate::{
    protocol::{NewSchedule, Reply, Request, ScheduleInfo, ScheduleRequest},
    task::TaskId,
};

/// The schedules of a control plane. From [`Client::schedules`].
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'a>(&'a Client);

impl Client {
    /// Returns a handle to the schedules, by which the control plane submits tasks.
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }
}

/// Action if there is another schedule of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Keep it, and refuse the new one.
    Keep,
    /// Replace it with the new one.
    Replace,
}

impl Schedules<'_> {
    /// Adds a schedule. Adding the same one again changes nothing.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the schedule is not valid, or there is another one of its name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
    /// use std::time::Duration;
    ///
    /// use fastworker::{client::OnConflict, protocol::NewSchedule, task::schedule::{Overlap, ScheduleSpec, When}};
    ///
    /// let when = When::Every(Duration::from_secs(3600));
    /// let spec = ScheduleSpec { when, count: None, until: None, overlap: Overlap::Skip };
    /// client.schedules().add(NewSchedule::new("hourly", "cleanup", spec), OnConflict::Keep).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn add(&self, schedule: NewSchedule, on_conflict: OnConflict) -> Result<ScheduleInfo, ClientError> {
        let replace = on_conflict == OnConflict::Replace;
        let schedule = Box::new(schedule);
        match self.send_request(ScheduleRequest::Add { schedule, replace }).await?.pop() {
            Some(added) => Ok(added),
            None => Err(self.0.0.unexpected_reply()),
        }
    }

    /// Returns all schedules, by name.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn list(&self) -> Result<Vec<ScheduleInfo>, ClientError> {
        self.send_request(ScheduleRequest::List).await
    }

    /// Pauses a schedule until it is resumed. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn pause(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.send_request(ScheduleRequest::Pause(name.to_owned())).await?.pop())
    }

    /// Resumes a schedule. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn resume(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.send_request(ScheduleRequest::Resume(name.to_owned())).await?.pop())
    }

    /// Submits the task of a schedule now, in addition to its times, and returns the task's id. None if
    /// there is no schedule of that name.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply, or refused the task.
    pub async fn trigger(&self, name: &str) -> Result<Option<TaskId>, ClientError> {
        let task_id = TaskId::new();
        let trigger = ScheduleRequest::Trigger { name: name.to_owned(), task_id: task_id.clone() };
        Ok(self.send_request(trigger).await?.pop().map(|_| task_id))
    }

    /// Removes a schedule; tasks that it has submitted still run. None if there is none of that name.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if it comes from a module: pause it instead.
    pub async fn remove(&self, name: &str) -> Result<Option<ScheduleInfo>, ClientError> {
        Ok(self.send_request(ScheduleRequest::Remove(name.to_owned())).await?.pop())
    }

    async fn send_request(&self, request: ScheduleRequest) -> Result<Vec<ScheduleInfo>, ClientError> {
        let inner = &self.0.0;
        match inner.unless_stopped(inner.send_request(&Request::Schedule(request))).await? {
            Reply::Schedules(schedules) => Ok(schedules),
            _ => Err(inner.unexpected_reply()),
        }
    }
}
