//! Ring, sleep and close under loom: the real `ring` and `control`, over loom's memory, in every order that the memory model allows.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p shm-rpc --release --lib models
//! ```

use crate::control::{self, Barrier, FUTEX, Fence, Parked, Woken};
use crate::layout::{AT_CLOSED, AT_PARKED, AT_TAKEN_THROUGH, slot_offset};
use crate::memory::{OwnMemory, PeerMemory, segment};
use crate::message::{Kind, Slot};
use crate::ring::{Peek, Receiver, Sender, fence_before_looks};
use crate::sync::atomic::Ordering;

const SLOTS: u32 = 2;

const CONTROL: [(usize, u64); 3] = [(AT_PARKED, 0), (AT_CLOSED, 0), (AT_TAKEN_THROUGH, 0)];

/// The writer's segment with a ring, and the reader's with its control words.
fn channel() -> ((OwnMemory, PeerMemory), (OwnMemory, PeerMemory)) {
    (segment(ring()), segment(CONTROL))
}

/// A segment with both.
fn whole_segment() -> (OwnMemory, PeerMemory) {
    segment(ring().into_iter().chain(CONTROL))
}

/// The words of an empty ring.
fn ring() -> Vec<(usize, u64)> {
    let mut words = Vec::new();
    for index in 0..SLOTS {
        words.push((slot_offset(index), u64::from(index.wrapping_add(1).wrapping_sub(SLOTS))));
        // One word of content is enough to see whether it is there when the sequence says so.
        words.push((slot_offset(index) + 8, u64::MAX));
    }
    // `publish` stores all of a slot's content; the models need the other words only as something to be written.
    for index in 0..SLOTS {
        words.extend((2..8).map(|word| (slot_offset(index) + 8 * word, 0)));
    }
    words
}

fn message(number: u32) -> Slot {
    Slot::short(Kind::Call, number, 0)
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// Two calls are under way. The callee sees the second when it answers the first, and leaves its fence to the caller, as in
/// `server/replies`; the caller sleeps for the first with another under way, as in `client/calls/waiters`. The second is being
/// executed for ever, so its answer wakes nobody. `fence` is what stands behind the first.
fn the_first_of_two_answers_arrives(fence: Option<Fence>) {
    explore(None, move || {
        let ((own, ring), (control, peer)) = channel();
        let callee = loom::thread::spawn(move || {
            let mut sender = Sender::new(SLOTS);
            sender.publish(&own, &message(0));
            if let Some(fence) = fence {
                fence.make();
            }
            let wake = Woken::default().look(&peer, &sender);
            if wake.bits != 0 {
                own.wake(wake.offset);
            }
        });
        let mut receiver = Receiver::new(SLOTS);
        let mut parked = Parked::default();
        let mut slot = Slot::EMPTY;
        while receiver.take(&ring, &mut slot) == Ok(Peek::Empty) {
            sleep(&ring, &control, &receiver, &mut parked, Barrier::Everyones);
        }
        callee.join().unwrap();
    });
}

#[test]
fn an_answer_without_its_fence_wakes_a_caller_that_makes_everyones_barrier() {
    the_first_of_two_answers_arrives(Some(Fence::Readers));
}

/// The fence is what the proof above stands on.
#[test]
#[should_panic(expected = "deadlock")]
fn an_answer_without_any_fence_leaves_a_caller_asleep() {
    the_first_of_two_answers_arrives(None);
}

/// One call is under way when the caller goes to sleep, so it makes its own fence only; the second call is sent while it sleeps, by
/// another thread of it under the same lock. The callee leaves its fence out if it sees the second call, looking with `order`, and no
/// barrier of the caller's makes up for it.
fn an_answer_that_sees_a_later_call_arrives(order: Ordering) {
    explore(None, move || {
        let ((calls_out, calls_in), (answers_out, answers_in)) = (whole_segment(), whole_segment());
        let callee = loom::thread::spawn(move || {
            let calls = Receiver::new(SLOTS);
            let sees_a_call = calls.is_next(calls_in.load(calls.offset(), order));
            let mut sender = Sender::new(SLOTS);
            sender.publish(&answers_out, &message(0));
            if !sees_a_call {
                Fence::Ours.make();
            }
            let wake = Woken::default().look(&calls_in, &sender);
            if wake.bits != 0 {
                answers_out.wake(wake.offset);
            }
        });
        let mut receiver = Receiver::new(SLOTS);
        let mut parked = Parked::default();
        let mut calls = Sender::new(SLOTS);
        let mut slot = Slot::EMPTY;
        while receiver.take(&answers_in, &mut slot) == Ok(Peek::Empty) {
            parked.set(&calls_out, FUTEX, receiver.position(), Barrier::Own);
            if receiver.peek(&answers_in) == Ok(Peek::Empty) {
                if calls.position() == 0 {
                    calls.publish(&calls_out, &message(0));
                }
                answers_in.wait(receiver.offset(), receiver.previous(), None);
            }
            parked.clear(&calls_out, FUTEX);
        }
        callee.join().unwrap();
    });
}

#[test]
fn an_answer_whose_fence_is_left_out_for_a_call_sent_in_sleep_wakes_the_caller() {
    an_answer_that_sees_a_later_call_arrives(Ordering::Acquire);
}

/// The callee's look at the next call must be Acquire.
#[test]
#[should_panic(expected = "deadlock")]
fn a_relaxed_look_at_the_next_call_leaves_a_caller_asleep() {
    an_answer_that_sees_a_later_call_arrives(Ordering::Relaxed);
}

/// Sleeps until the next message may be there.
fn sleep(ring: &PeerMemory, own: &OwnMemory, receiver: &Receiver, parked: &mut Parked, barrier: Barrier) {
    parked.set(own, FUTEX, receiver.position(), barrier);
    if receiver.peek(ring) == Ok(Peek::Empty) {
        ring.wait(receiver.offset(), receiver.previous(), None);
    }
    parked.clear(own, FUTEX);
}

/// The reader: takes `count` messages, sleeping whenever there is none, and checks their order.
fn read(ring: &PeerMemory, own: &OwnMemory, count: u32) {
    let mut receiver = Receiver::new(SLOTS);
    let mut parked = Parked::default();
    let mut slot = Slot::EMPTY;
    while receiver.position() < count {
        let expected = receiver.position();
        match receiver.take(ring, &mut slot).expect("an honest sender") {
            Peek::There => {
                assert_eq!(slot.low(), expected, "content older than its sequence");
                control::store_taken_through(own, receiver.position());
            }
            Peek::Empty => sleep(ring, own, &receiver, &mut parked, Barrier::Own),
        }
    }
}

/// The writer: publishes `count` messages, waking the reader when it sleeps, and waiting for room.
fn write(own: &OwnMemory, peer: &PeerMemory, count: u32) {
    let mut sender = Sender::new(SLOTS);
    let mut woken = Woken::default();
    for number in 0..count {
        while sender.free() == 0 {
            sender.check_taken(control::load_taken_through(peer)).expect("an honest reader");
            if sender.free() == 0 {
                loom::thread::yield_now();
            }
        }
        sender.publish(own, &message(number));
        fence_before_looks();
        let wake = woken.look(peer, &sender);
        if wake.bits != 0 {
            own.wake(wake.offset);
        }
    }
}

fn every_message_arrives_and_no_sleep_is_forever(count: u32, preemptions: Option<usize>) {
    explore(preemptions, move || {
        let ((own, ring), (control, peer)) = channel();
        let writer = loom::thread::spawn(move || write(&own, &peer, count));
        read(&ring, &control, count);
        writer.join().unwrap();
    });
}

#[test]
fn two_messages_arrive_and_no_sleep_is_forever() {
    every_message_arrives_and_no_sleep_is_forever(2, None);
}

#[test]
fn three_messages_in_a_ring_of_two_arrive_and_no_sleep_is_forever() {
    every_message_arrives_and_no_sleep_is_forever(3, Some(3));
}

/// The reader closes at any moment; returns where, and how many it took.
fn close(ring: &PeerMemory, own: &OwnMemory, first: u32) -> u32 {
    let mut receiver = Receiver::new(SLOTS);
    let mut slot = Slot::EMPTY;
    for _ in 0..first {
        if receiver.take(ring, &mut slot) == Ok(Peek::Empty) {
            break;
        }
    }
    control::set_closed(own);
    while receiver.take(ring, &mut slot) == Ok(Peek::There) {}
    receiver.position()
}

fn a_close_is_one_point_in_the_order_of_messages(first: u32, preemptions: Option<usize>) {
    explore(preemptions, move || {
        let ((own, ring), (control, peer)) = channel();
        let writer = loom::thread::spawn(move || {
            let mut sender = Sender::new(SLOTS);
            let mut surely_before = 0;
            for number in 0..2 {
                sender.publish(&own, &message(number));
                fence_before_looks();
                if control::is_closed(&peer) {
                    break;
                }
                surely_before = number + 1;
            }
            (surely_before, sender.position())
        });
        let at = close(&ring, &control, first);
        let (surely_before, sent) = writer.join().unwrap();
        assert!(
            at >= surely_before,
            "message {} was sent without a sign of the close, and not taken",
            surely_before - 1
        );
        assert!(at <= sent);
    });
}

#[test]
fn a_close_before_anything_is_taken_loses_nothing() {
    a_close_is_one_point_in_the_order_of_messages(0, None);
}

#[test]
fn a_close_in_the_middle_loses_nothing() {
    a_close_is_one_point_in_the_order_of_messages(1, None);
}

#[test]
fn progress_never_runs_ahead_of_what_was_read() {
    explore(None, || {
        let ((own, ring), (control, peer)) = channel();
        let writer = loom::thread::spawn(move || {
            let mut sender = Sender::new(SLOTS);
            sender.publish(&own, &message(0));
            sender.publish(&own, &message(1));
            let taken = sender.check_taken(control::load_taken_through(&peer)).expect("an honest reader");
            // What was taken may be overwritten.
            if taken > 0 {
                sender.publish(&own, &message(2));
            }
        });
        let mut receiver = Receiver::new(SLOTS);
        let mut slot = Slot::EMPTY;
        for number in 0..2 {
            if receiver.take(&ring, &mut slot) == Ok(Peek::There) {
                assert_eq!(slot.low(), number, "overwritten before it was taken");
                control::store_taken_through(&control, receiver.position());
            } else {
                break;
            }
        }
        writer.join().unwrap();
    });
}
