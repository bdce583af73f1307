//! Codes of refusals.
//!
//! Here and not in `protocol`, because a [`LoadFailure`](super::LoadFailure) carries one.

use super::open_enum;

open_enum! {
    /// The reason for a refusal. Codes are never renamed or reused; later versions may add some.
    pub enum RefusalCode: "refusal code" {
        /// The control plane is stopping: the next one accepts the same request.
        Stopping = "stopping",
        /// The queue is full: try again later.
        QueueFull = "queue-full",
        /// Too many requests are open: try again later.
        TooManyRequests = "too-many-requests",
        /// The request cannot be read.
        Unreadable = "unreadable",
        /// The request is in a format that is not supported, such as a pickle.
        UnsupportedFormat = "unsupported-format",
        /// The request is of a protocol version that is not supported.
        UnsupportedVersion = "unsupported-version",
        /// The request has a value that is not allowed, such as a task name.
        BadRequest = "bad-request",
        /// The arguments are over the limit.
        TooLarge = "too-large",
        /// The reply is larger than a frame.
        ReplyTooLarge = "reply-too-large",
        /// The metadata is not an object, or over the limit.
        MetadataInvalid = "metadata-invalid",
        /// The callback has no valid address, or too much data.
        CallbackInvalid = "callback-invalid",
        /// The task id belongs to another call: use a new id.
        IdTaken = "id-taken",
        /// Too many sessions wait for this task: look it up instead.
        SessionLimit = "session-limit",
        /// The worker id is not valid.
        WorkerIdInvalid = "worker-id-invalid",
        /// Another worker of this id is connected: try again later, or use another id.
        WorkerIdInUse = "worker-id-in-use",
        /// The control plane itself has this worker id: use another id.
        WorkerIdReserved = "worker-id-reserved",
        /// Too many workers are connected.
        WorkerLimit = "worker-limit",
        /// The worker has no slot of this number.
        NoSuchSlot = "no-such-slot",
        /// The catalog of the worker, or those of all workers, are over the limit.
        CatalogTooLarge = "catalog-too-large",
        /// Unfinished tasks could not run with the new catalog: try again later, or force it.
        CatalogConflict = "catalog-conflict",
        /// The control plane has no module with this hash any more: request the list of its modules.
        NoSuchModule = "no-such-module",
        /// The schedule is not valid.
        ScheduleInvalid = "schedule-invalid",
        /// There is another schedule of this name: use another name, or replace it.
        ScheduleExists = "schedule-exists",
        /// The schedule comes from a module and cannot be changed by a request.
        ScheduleOfModule = "schedule-of-module",
        /// There are too many schedules, or their arguments are too large.
        ScheduleLimit = "schedule-limit",
        /// The control plane failed, which is a bug in fastworker.
        InternalError = "internal-error",
    }
}
