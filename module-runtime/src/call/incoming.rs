//! A call that is to be answered: decoding, context, panics, figures. What a generated server hands its methods to.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use mortise_control::PeerInfo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shm_rpc::{Call, Encoded, Encoding};

use super::Failure;
use super::context::Context;
use super::method::Method;
use crate::figures::{Counter, Outcome, Running};

/// What all calls of one channel have in common.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) service: &'static str,
    pub(crate) peer: Arc<PeerInfo>,
    pub(crate) encoding: Encoding,
    pub(crate) counter: Counter,
}

/// A call that has arrived. Dropped without an answer, its caller gets `Internal`.
#[derive(Debug)]
pub struct Incoming {
    call: Call<'static>,
    source: Arc<Source>,
}

impl Incoming {
    pub(crate) fn new(call: Call<'static>, source: Arc<Source>) -> Self {
        Self { call, source }
    }

    /// Which method is called: [`super::method_id`] of its name.
    #[must_use]
    pub fn method(&self) -> u32 {
        self.call.method()
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &PeerInfo {
        &self.source.peer
    }

    /// Answers with what an async function returns.
    pub async fn answer<A, T, E, F>(self, method: &'static Method, handler: impl FnOnce(A) -> F)
    where
        A: DeserializeOwned,
        T: Serialize,
        E: Serialize,
        F: Future<Output = Result<T, E>>,
    {
        let source = Arc::clone(&self.source);
        let running = counted(&self.call, &source);
        let Some((call, arguments)) = self.begin::<A>() else { return };
        let context = context(&call, &source, method);
        let outcome = context.scope(caught(handler(arguments))).await;
        finish(call, &source, method, outcome, running);
    }

    /// Answers with what a plain function returns.
    pub fn answer_now<A, T, E>(self, method: &'static Method, handler: impl FnOnce(A) -> Result<T, E>)
    where
        A: DeserializeOwned,
        T: Serialize,
        E: Serialize,
    {
        let source = Arc::clone(&self.source);
        let running = counted(&self.call, &source);
        let Some((call, arguments)) = self.begin::<A>() else { return };
        let context = context(&call, &source, method);
        let outcome = context.sync_scope(|| catch_unwind(AssertUnwindSafe(|| handler(arguments))));
        finish(call, &source, method, outcome.map_err(|_| Panicked), running);
    }

    /// Answers that the service has no such method.
    pub fn unknown_method(self) {
        let running = counted(&self.call, &self.source);
        let method = self.call.method();
        self.call.fail(&Failure::Invalid(no_method(self.source.service, method)));
        end(running, Outcome::Failed);
    }

    /// The arguments, unless the call is too late or they are none; then it has been answered.
    fn begin<A: DeserializeOwned>(self) -> Option<(Call<'static>, A)> {
        if self.call.deadline().is_some_and(|it| it.has_passed()) {
            self.call.fail(&Failure::Deadline { started: false });
            return None;
        }
        match self.call.decode::<A>() {
            Ok(arguments) => Some((self.call, arguments)),
            Err(failure) => {
                self.call.fail(&failure);
                None
            }
        }
    }
}

/// The call in the figures. A copy is in none: they tell what the callers get, and a version is judged by them.
fn counted<'a>(call: &Call<'static>, source: &'a Source) -> Option<Running<'a>> {
    (!call.is_shadow()).then(|| source.counter.begin())
}

fn end(running: Option<Running<'_>>, outcome: Outcome) {
    if let Some(running) = running {
        running.end(outcome);
    }
}

/// What is said of a method that is only a number here.
fn no_method(service: &str, method: u32) -> String {
    format!("the service {service} has no method with the id {method:#010x}")
}

/// The failure with the method's name, which only the caller knows.
pub(super) fn named(failure: Failure, service: &str, method: &str) -> Failure {
    match failure {
        Failure::Invalid(said) if said == no_method(service, super::method_id(method)) => {
            Failure::Invalid(format!("the service {service} has no method {method:?}"))
        }
        other => other,
    }
}

fn context(call: &Call<'static>, source: &Source, method: &'static Method) -> Context {
    Context::of_call(call.options(), source.service, method.name(), Arc::clone(&source.peer))
}

fn finish<T: Serialize, E: Serialize>(
    call: Call<'static>,
    source: &Source,
    method: &'static Method,
    outcome: Result<Result<T, E>, Panicked>,
    running: Option<Running<'_>>,
) {
    match outcome {
        Ok(Ok(value)) => {
            call.reply(Encoded(source.encoding, &value));
            end(running, Outcome::Answered);
        }
        Ok(Err(error)) => {
            call.fault(Encoded(source.encoding, &error));
            end(running, Outcome::Failed);
        }
        Err(Panicked) => {
            // The panic hook has printed message and place; the caller may belong to somebody else and gets neither.
            tracing::error!(service = source.service, method = method.name(), "the method panicked");
            call.fail(&Failure::Internal(format!("{}.{} panicked", source.service, method.name())));
            end(running, Outcome::Failed);
        }
    }
}

/// Code of the author's panicked. One call fails by it, not the worker.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Runs a future of the author's and stops it where it panics.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // After a panic the future is never polled again; what it shared with others may be in the state of any panic that
        // unwinds, which is what poisoned locks are for.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}
