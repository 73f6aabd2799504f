//! The one permanent thread that clones.
//!
//! One, because a death signal set by anybody (not by us) would fire when the creating *thread* ends, and because the child's stack
//! is reused. Clones are serialised by it anyway: each takes well below a millisecond until the child has exec'd.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use super::SpawnError;
use super::clone::{self, Child, Order, Stack};
use super::memfd::errno_of;
use crate::failpoint::{self, Point};

/// An order that owns what it needs.
pub(super) struct Owned {
    pub namespaces: u64,
    pub cgroup: Option<OwnedFd>,
    pub tasks: Vec<OwnedFd>,
    pub descriptors: Vec<OwnedFd>,
    pub user_map: Option<[Vec<u8>; 2]>,
    pub arguments: Vec<CString>,
}

type Answer = Result<Child, SpawnError>;

/// A way to the thread. It ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub(super) struct Cloner {
    orders: mpsc::Sender<(Owned, mpsc::Sender<Answer>)>,
}

impl Cloner {
    /// Starts the thread. `init` is the program that every child becomes.
    pub fn start(init: CString) -> Result<Self, SpawnError> {
        let mut stack = Stack::new().map_err(|errno| SpawnError::Kernel { what: "make a stack for clone3", errno })?;
        let (orders, ordered) = mpsc::channel::<(Owned, mpsc::Sender<Answer>)>();
        let started = thread::Builder::new().name("mortise-clone".into()).spawn(move || {
            for (order, answer) in ordered {
                // Whoever does not wait any more has left the child to the sweep of its group.
                let _ = answer.send(perform(&order, &init, &mut stack));
            }
        });
        started.map_err(|e| SpawnError::Kernel { what: "start a thread", errno: errno_of(&e) })?;
        Ok(Self { orders })
    }

    /// Makes a child. Blocks until it has become init.
    pub fn clone_child(&self, order: Owned) -> Answer {
        let (answer, answered) = mpsc::channel();
        self.orders.send((order, answer)).map_err(|_| SpawnError::Stopping)?;
        answered.recv().map_err(|_| SpawnError::Stopping)?
    }
}

fn perform(order: &Owned, init: &CString, stack: &mut Stack) -> Answer {
    failpoint::reach(Point::Clone).map_err(|e| SpawnError::Kernel { what: "clone3", errno: errno_of(&e) })?;
    let descriptors: Vec<_> = order.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let order = Order {
        namespaces: order.namespaces,
        cgroup: order.cgroup.as_ref().map(AsFd::as_fd),
        tasks: &order.tasks,
        descriptors: &descriptors,
        user_map: order.user_map.as_ref(),
        path: init,
        arguments: &order.arguments,
    };
    clone::clone(&order, stack).map_err(|it| SpawnError::Kernel { what: it.what.name(), errno: it.errno })
}
