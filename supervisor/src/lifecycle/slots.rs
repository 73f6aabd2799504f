//! The worker table: slots, their generations, and what is on disk of them.

use std::collections::BTreeSet;

use mortise_control::WorkerId;

use super::CommitId;
use super::worker::{Life, Worker};
use crate::store::WorkerRecord;

/// The worker table. Ids of an old generation find nothing in it.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: BTreeSet<u32>,
    /// Slots whose workers may have changed.
    marks: BTreeSet<u32>,
}

/// A place in the table.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The newest generation that was handed out.
    pub(super) generation: u32,
    pub(super) worker: Option<Worker>,
    /// What is certainly on disk.
    pub(super) saved: Option<WorkerRecord>,
    pub(super) writing: Option<CommitId>,
}

impl Slots {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.slots.get(id.slot as usize)?.worker.as_ref().filter(|it| it.id == id)
    }

    /// A worker, to be changed: its slot is marked.
    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        let worker = self.slots.get_mut(id.slot as usize)?.worker.as_mut().filter(|it| it.id == id)?;
        self.marks.insert(id.slot);
        Some(worker)
    }

    /// The workers that were marked since this was asked last, as far as they are there.
    pub(super) fn take_marked(&mut self) -> impl Iterator<Item = &Worker> {
        let marks = std::mem::take(&mut self.marks);
        marks.into_iter().filter_map(|it| self.slots.get(it as usize)?.worker.as_ref())
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    pub(super) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().filter_map(|it| it.worker.as_ref())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|it| it.worker.is_none())
    }

    /// A new id in the lowest free slot that has generations left.
    pub(super) fn allot(&mut self) -> WorkerId {
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.next_generation(slot)
    }

    /// The next id of a slot.
    fn next_generation(&mut self, slot: u32) -> WorkerId {
        let place = &mut self.slots[slot as usize];
        place.generation += 1;
        WorkerId { slot, generation: place.generation }
    }

    /// The next id of a slot that was just vacated.
    pub(super) fn reuse(&mut self, slot: u32) -> WorkerId {
        self.free.remove(&slot);
        self.next_generation(slot)
    }

    pub(super) fn occupy(&mut self, worker: Worker) {
        let slot = worker.id.slot as usize;
        self.marks.insert(worker.id.slot);
        self.slots[slot].worker = Some(worker);
    }

    pub(super) fn vacate(&mut self, id: WorkerId) -> Option<Worker> {
        let place = self.slots.get_mut(id.slot as usize)?;
        if place.worker.as_ref()?.id != id {
            return None;
        }
        let worker = place.worker.take();
        // A slot whose generations are used up is never handed out again.
        if place.generation < u32::MAX {
            self.free.insert(id.slot);
        }
        worker
    }

    /// The table as it was on disk; occupants are put in by the caller.
    pub(super) fn restore(records: &[WorkerRecord]) -> Self {
        let len = records.iter().map(|it| it.worker.slot as usize + 1).max().unwrap_or(0);
        let mut slots: Vec<Slot> = (0..len).map(|_| Slot::default()).collect();
        for record in records {
            let slot = &mut slots[record.worker.slot as usize];
            slot.generation = record.worker.generation;
            slot.saved = Some(record.clone());
        }
        let occupied: BTreeSet<u32> =
            records.iter().filter(|it| it.occupant.is_some()).map(|it| it.worker.slot).collect();
        let free = (0..u32::try_from(len).unwrap_or(u32::MAX))
            .filter(|it| !occupied.contains(it) && slots[*it as usize].generation < u32::MAX)
            .collect();
        Self { slots, free, marks: BTreeSet::new() }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}

impl Slot {
    /// What should be on disk; none: whatever there is may stay.
    pub(super) fn record(&self, slot: u32) -> Option<WorkerRecord> {
        let worker = WorkerId { slot, generation: self.generation };
        match &self.worker {
            // Nothing of this generation is on the host before its record is on disk.
            Some(it) if it.life == Life::Waiting => None,
            Some(it) => Some(WorkerRecord { worker, occupant: it.occupant() }),
            None if self.saved.as_ref().is_some_and(|it| it.occupant.is_some()) || self.writing.is_some() => {
                Some(WorkerRecord { worker, occupant: None })
            }
            None => None,
        }
    }

    /// Whether what should be on disk is not, nor on its way.
    pub(super) fn unsaved(&self, slot: u32) -> bool {
        self.writing.is_none() && self.record(slot).is_some_and(|it| self.saved.as_ref() != Some(&it))
    }
}
