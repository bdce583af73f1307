//! Checks grants: their order, their workers, and that no slot idles while it could run a task.

use std::collections::{BTreeMap, BTreeSet};

use fastworker::{
    clock::Now,
    control_plane::{
        queue::{GUARD_AFTER, GUARD_EVERY, Position},
        state::{AnyReply, Effect, LOSSES_MAX, State},
        worker_registry::WorkerKey,
    },
    protocol::{Lease, LeaseId, PREFETCH_MAX, WorkerReply, WorkerRequest},
    task::{TaskId, TaskPriority},
};
use uuid::Uuid;

use super::{
    checks::{Coverage, Record, ensure},
    network::{SimRequest, Ticket},
};

/// All leases granted so far.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    granted: BTreeMap<LeaseId, TaskId>,
    since_guard: u32,
}

/// One grant, and the queue positions of its tasks.
struct Grant {
    worker: Uuid,
    tasks: Vec<(TaskPriority, Position, String)>,
}

impl Grants {
    /// The task of a lease.
    pub(crate) fn task_of(&self, lease: LeaseId) -> Option<&TaskId> {
        self.granted.get(&lease)
    }

    pub(crate) fn after(
        &mut self,
        state: &State<Ticket>,
        now: Now,
        effects: &[Effect<Ticket>],
        live: &mut BTreeMap<TaskId, Record>,
        seen: &mut Coverage,
    ) -> Result<(), String> {
        let mut grants = Vec::new();
        for effect in effects {
            let Effect::Reply { to, reply } = effect else { continue };
            if matches!(&*to.request, SimRequest::Worker(WorkerRequest::Catalog(_))) {
                seen.changes += u64::from(*reply == AnyReply::Worker(WorkerReply::Noted));
                seen.declined += u64::from(matches!(reply, AnyReply::Worker(WorkerReply::Declined(_))));
            }
            let AnyReply::Worker(WorkerReply::Leases(leases)) = reply else { continue };
            let SimRequest::Worker(WorkerRequest::Work(work)) = &*to.request else {
                return Err(format!("leases in reply to {:?}", to.request));
            };
            ensure(leases.len() <= PREFETCH_MAX.min(work.capacity as usize), || {
                format!("{} leases for a capacity of {}", leases.len(), work.capacity)
            })?;
            let newest = self.granted.last_key_value().map(|(lease, _)| *lease);
            if leases.first().is_some_and(|first| Some(first.id) > newest) {
                seen.lookaheads += u64::from(leases.len() > 1);
                grants.push(self.take(state, now, work.worker, leases, live)?);
            } else if !leases.is_empty() {
                seen.repeated += 1;
                self.check_repeat(state, work.worker, leases)?;
            }
        }
        for (number, grant) in grants.iter().enumerate() {
            self.check_order(state, now, grant, &grants[number + 1..], seen)?;
        }
        Ok(())
    }

    /// Records a grant.
    fn take(
        &mut self,
        state: &State<Ticket>,
        now: Now,
        worker: Uuid,
        leases: &[Lease],
        live: &mut BTreeMap<TaskId, Record>,
    ) -> Result<Grant, String> {
        let mut tasks = Vec::new();
        for lease in leases {
            let id = &lease.task_id;
            let Some(view) = state.task_view(id) else { return Err(format!("{id} is granted and not unfinished")) };
            ensure(view.lease == Some((lease.id, WorkerKey(worker))) && view.attempt == lease.attempt, || {
                format!("{id} is granted as {lease:?}, but is {view:?} at {now:?}")
            })?;
            ensure(view.losses == 0 || leases.len() == 1, || format!("{id} was lost and is not granted alone"))?;
            Self::runs_alone(state, worker, lease, view.losses)?;
            if let Some(record) = live.get_mut(id) {
                record.newest = Some(lease.id);
            }
            let before = self.granted.insert(lease.id, id.clone());
            ensure(before.is_none(), || format!("{:?} was granted twice", lease.id))?;
            if let Some(position) = view.position {
                tasks.push((view.priority, position, view.name.to_owned()));
            }
        }
        Ok(Grant { worker, tasks })
    }

    /// Checks that a task which one more crash would end runs alone on its worker.
    fn runs_alone(state: &State<Ticket>, worker: Uuid, lease: &Lease, losses: u32) -> Result<(), String> {
        let Some(worker) = state.registry().get(WorkerKey(worker)) else { return Ok(()) };
        let alone = losses + 1 >= LOSSES_MAX;
        // A worker may be reserved right after a grant, to be free for the next task that must run alone.
        ensure(!alone || worker.is_reserved(), || format!("{lease:?} after {losses} crashes, on {}", worker.id))?;
        let held = worker.slots.values().map(|slot| slot.granted.len()).sum::<usize>();
        ensure(!alone || held <= 1, || format!("{lease:?} is one of {held} on {}", worker.id))
    }

    fn check_repeat(&self, state: &State<Ticket>, worker: Uuid, leases: &[Lease]) -> Result<(), String> {
        leases.iter().try_for_each(|lease| {
            let view = state.task_view(&lease.task_id);
            let live = view.is_some_and(|view| view.lease == Some((lease.id, WorkerKey(worker))));
            ensure(live && self.granted.get(&lease.id) == Some(&lease.task_id), || {
                format!("{lease:?} is repeated, but is {view:?}")
            })
        })
    }

    /// Checks that a grant takes the first tasks that the worker can run.
    fn check_order(
        &mut self,
        state: &State<Ticket>,
        now: Now,
        grant: &Grant,
        later: &[Grant],
        seen: &mut Coverage,
    ) -> Result<(), String> {
        let Some(worker) = state.registry().get(WorkerKey(grant.worker)) else {
            return Err("a grant to an unknown worker".into());
        };
        if worker.is_reserved() {
            // It runs one task alone.
            return Ok(());
        }
        self.since_guard += 1;
        let (Some(first), Some(last)) = (grant.tasks.first(), grant.tasks.last()) else { return Ok(()) };
        let sorted = grant.tasks.is_sorted_by_key(|(priority, position, _)| (*priority, *position));
        ensure(sorted && first.0 == last.0, || format!("a grant out of order: {:?}", grant.tasks))?;
        // Isolated tasks wait for a reserved worker.
        let isolated: BTreeSet<&TaskId> = state.queue().isolated().map(|(_, id)| id).collect();
        let queued = state.queue().iter().filter(|(_, id)| !isolated.contains(id));
        let queued = queued.map(|(place, _)| (place.priority, place.position, place.name.to_string()));
        let waiting = queued.chain(later.iter().flat_map(|grant| grant.tasks.iter().cloned()));
        let mut passed_over = None;
        for (priority, position, name) in waiting.filter(|(_, _, name)| worker.can_run(name)) {
            ensure(priority != last.0 || position > last.1, || {
                format!("{name} at {position:?} was passed over by {:?}", grant.tasks)
            })?;
            if priority < last.0 {
                passed_over = Some((priority, position, name));
            }
        }
        let Some(better) = passed_over else { return Ok(()) };
        let leased = self.granted.values().rev().find_map(|id| {
            let view = state.task_view(id)?;
            (view.position == Some(first.1)).then_some(view.waiting_since)
        });
        let starved = leased.is_some_and(|since| now.mono.since(since) > GUARD_AFTER);
        ensure(starved && self.since_guard >= GUARD_EVERY, || {
            format!("{better:?} was passed over by {:?}, {} grants after the last guard", grant.tasks, self.since_guard)
        })?;
        (self.since_guard, seen.guards) = (0, seen.guards + 1);
        Ok(())
    }

    /// Checks that no slot is parked while a task waits that it could run.
    pub(crate) fn no_slot_waits(state: &State<Ticket>) -> Result<(), String> {
        for (key, worker) in state.registry().iter() {
            if worker.slots.values().all(|slot| slot.parked.is_none()) {
                continue;
            }
            ensure(!worker.draining, || format!("a slot of {key:?} waits although its worker drains"))?;
            if worker.is_reserved() {
                continue;
            }
            let isolated = state.queue().isolated().count();
            let task = state.queue().iter().skip(isolated).find(|(place, _)| worker.can_run(&place.name));
            ensure(task.is_none(), || format!("{task:?} waits, and so does a slot of {} that can run it", worker.id))?;
        }
        Ok(())
    }
}
