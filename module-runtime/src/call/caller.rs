//! Calls of one service: chosen targets, waits and retries, within the deadline.

use std::sync::Arc;
use std::time::Duration;

use mortise_control::{ChannelId, ServiceName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shm_rpc::{CallOptions, Deadline, Encoded, Encoding, Payload, Reply, Tags};

use super::incoming::named;
use super::method::{Method, Repeat, method_id};
use super::options::{Options, Patience};
use super::routes::Routes;
use super::{CallError, Failure};
use crate::figures::Outcome;

/// Calls one service, whichever workers answer it: what a typed client is made of. Clones are cheap.
///
/// At most once, unless the method is idempotent. A call that certainly never started goes to another target, and one for
/// which there is no target waits for one, both within its deadline: the earlier of the client's and of the call in which it is
/// made (30 seconds if there is neither).
#[derive(Clone, Debug)]
pub struct Caller {
    routes: Arc<Routes>,
    options: Options,
}

impl Caller {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, options: Options::DEFAULT }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.routes.service
    }

    fn with_patience(&self, patience: Patience) -> Self {
        Self { routes: Arc::clone(&self.routes), options: Options { patience, ..self.options } }
    }

    /// The same with calls that wait at most this long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.with_patience(Patience::For(timeout))
    }

    /// The same with calls that wait until then.
    #[must_use]
    pub fn with_deadline(&self, deadline: Deadline) -> Self {
        self.with_patience(Patience::Until(deadline))
    }

    /// The same with calls that wait as long as it takes, or as the call that they are made in may take.
    #[must_use]
    pub fn without_deadline(&self) -> Self {
        self.with_patience(Patience::Unlimited)
    }

    /// The same with calls that carry these tags instead of inherited ones.
    #[must_use]
    pub fn with_tags(&self, tags: Tags) -> Self {
        Self { routes: Arc::clone(&self.routes), options: Options { tags: Some(tags), ..self.options } }
    }

    /// Waits for a target, at most this long.
    pub(crate) async fn is_answered(&self, within: Duration) -> bool {
        self.routes.pick_or_wait(&self.options.now().tags, &[], Some(Deadline::after(within))).await.is_ok()
    }

    /// Calls a method with a structure of arguments.
    ///
    /// # Errors
    /// The method's own error, or why there is no answer.
    pub async fn call<A, T, E>(&self, method: &Method, arguments: &A) -> Result<T, CallError<E>>
    where
        A: Serialize + Sync,
        T: DeserializeOwned,
        E: DeserializeOwned,
    {
        let running = self.routes.counter.begin();
        let payload = |encoding| Encoded(encoding, arguments);
        let result = self.exchange(method.name(), method.id(), method.repeat(), payload).await;
        let result = match result.and_then(|reply| reply.decode::<T, E>()) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CallError::Module(error)),
            Err(failure) => Err(CallError::Failed(failure)),
        };
        running.end(if result.is_ok() { Outcome::Answered } else { Outcome::Failed });
        result
    }

    /// Calls a method with a body that is encoded already, by field name, and hands the reply to `read`.
    pub(crate) async fn call_encoded<T>(
        &self,
        method: &str,
        repeat: Repeat,
        body: &[u8],
        read: impl FnOnce(&Reply) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let running = self.routes.counter.begin();
        let result = self.exchange(method, method_id(method), repeat, |_| body).await.and_then(|reply| {
            let outcome = if reply.is_fault() { Outcome::Failed } else { Outcome::Answered };
            read(&reply).map(|value| (outcome, value))
        });
        running.end(result.as_ref().map_or(Outcome::Failed, |(outcome, _)| *outcome));
        result.map(|(_, value)| value)
    }

    async fn exchange<P: Payload>(
        &self,
        name: &str,
        method: u32,
        repeat: Repeat,
        payload: impl Fn(Encoding) -> P,
    ) -> Result<Reply, Failure> {
        let options = self.options.now();
        let mut attempts = Attempts::default();
        loop {
            let target = match self.routes.pick(&options.tags, &attempts.failed) {
                Some(target) => target,
                None => attempts.next_target(&self.routes, &options).await?,
            };
            let failure = match target.client.call_async(method, &options, payload(target.encoding)).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::ProtocolViolation(_)) {
                self.routes.tell_violation(&target);
            }
            attempts.note(target.id, failure, repeat).map_err(|it| named(it, self.routes.service.as_str(), name))?;
        }
    }
}

/// What became of a call at the targets that were tried.
#[derive(Debug, Default)]
struct Attempts {
    failed: Vec<ChannelId>,
    /// The last overload: better known at once than at the deadline.
    overloaded: Option<Failure>,
    /// An idempotent call may have been executed at one of them.
    maybe_executed: bool,
}

impl Attempts {
    /// Notes a failed attempt. Err: the call must not be repeated.
    fn note(&mut self, target: ChannelId, failure: Failure, repeat: Repeat) -> Result<(), Failure> {
        match failure {
            Failure::NotStarted | Failure::Draining => {}
            Failure::Overloaded { .. } => self.overloaded = Some(failure),
            Failure::MaybeExecuted | Failure::ProtocolViolation(_) if repeat == Repeat::Idempotent => {
                self.maybe_executed = true;
            }
            failure => return Err(self.judge(failure)),
        }
        self.failed.push(target);
        Ok(())
    }

    /// All known targets have been tried: the overload of one is the answer, otherwise another target may come.
    async fn next_target(
        &mut self,
        routes: &Routes,
        options: &CallOptions,
    ) -> Result<Arc<super::routes::Outgoing>, Failure> {
        match self.overloaded.take() {
            Some(overloaded) if self.maybe_executed => {
                let _ = overloaded;
                Err(Failure::MaybeExecuted)
            }
            Some(overloaded) => Err(overloaded),
            None => {
                routes.pick_or_wait(&options.tags, &self.failed, options.deadline).await.map_err(|it| self.judge(it))
            }
        }
    }

    /// The failure as the caller must see it: an earlier attempt may have been executed.
    fn judge(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Deadline { started } => Failure::Deadline { started: started || self.maybe_executed },
            Failure::Cancelled { started } => Failure::Cancelled { started: started || self.maybe_executed },
            Failure::NoService if self.maybe_executed => Failure::MaybeExecuted,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ChannelId = ChannelId(1);

    #[test]
    fn only_what_never_started_or_may_be_repeated_is_tried_again() {
        use Repeat::{AtMostOnce, Idempotent};
        let note = |failure, repeat| Attempts::default().note(A, failure, repeat).is_ok();
        for repeat in [AtMostOnce, Idempotent] {
            assert!(note(Failure::NotStarted, repeat));
            assert!(note(Failure::Draining, repeat));
            assert!(note(Failure::Overloaded { retry_after: Duration::ZERO }, repeat));
            assert!(!note(Failure::Invalid(String::new()), repeat));
            assert!(!note(Failure::Internal(String::new()), repeat));
            assert!(!note(Failure::Deadline { started: true }, repeat));
            assert!(!note(Failure::NoService, repeat));
        }
        assert!(!note(Failure::MaybeExecuted, AtMostOnce));
        assert!(note(Failure::MaybeExecuted, Idempotent));
    }

    #[test]
    fn a_deadline_after_an_attempt_that_may_have_run_says_so() {
        let mut attempts = Attempts::default();
        attempts.note(A, Failure::MaybeExecuted, Repeat::Idempotent).unwrap();
        assert_eq!(attempts.judge(Failure::Deadline { started: false }), Failure::Deadline { started: true });
        assert_eq!(
            Attempts::default().judge(Failure::Deadline { started: false }),
            Failure::Deadline { started: false }
        );
        assert_eq!(attempts.judge(Failure::NoService), Failure::MaybeExecuted);
        assert_eq!(Attempts::default().judge(Failure::NoService), Failure::NoService);
    }
}
