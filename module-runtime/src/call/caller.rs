//! Calls of one service: chosen targets, waits and retries, within the deadline.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mortise_control::{ChannelId, ServiceName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shm_rpc::{CallOptions, Deadline, Encoded, Encoding, Payload, Reply, Tags, With};
use tokio::sync::oneshot;

use super::incoming::named;
use super::method::{Method, Repeat, method_id};
use super::options::{Options, Patience};
use super::routes::{Outgoing, Routes};
use super::{CallError, Failure};
use crate::figures::Outcome;
use crate::shadow::{Answered, Copy, Heard, Shadow, Verdict, compare_answers};

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
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let running = self.routes.counter.begin();
        let result = match self.routes.shadow(method.repeat()) {
            None => {
                let payload = |encoding| Encoded(encoding, arguments);
                self.exchange(method.name(), method.id(), method.repeat(), payload).await
            }
            // On the heap: calls that have no copy do not carry it about.
            Some(shadow) => Box::pin(self.exchange_and_copy::<A, T, E>(method, arguments, shadow)).await,
        };
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
        if options.shadow && repeat != Repeat::Idempotent {
            return Err(refused_to_a_copy(self.routes.service.as_str(), name));
        }
        self.exchange_with(name, method, repeat, payload, &options, None).await.map(|(reply, _)| reply)
    }

    /// Sends what can be sent, beginning with the target that has been picked already, if one has.
    async fn exchange_with<P: Payload>(
        &self,
        name: &str,
        method: u32,
        repeat: Repeat,
        payload: impl Fn(Encoding) -> P,
        options: &CallOptions,
        mut first: Option<Arc<Outgoing>>,
    ) -> Result<(Reply, Encoding), Failure> {
        let mut attempts = Attempts::default();
        loop {
            let picked = first.take().or_else(|| self.routes.pick(&options.tags, &attempts.failed));
            let target = match picked {
                Some(target) => target,
                None => attempts.next_target(&self.routes, options).await?,
            };
            let failure = match target.client.call_async(method, options, payload(target.encoding)).await {
                Ok(reply) => return Ok((reply, target.encoding)),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::ProtocolViolation(_)) {
                self.routes.tell_violation(&target);
            }
            attempts.note(target.id, failure, repeat).map_err(|it| named(it, self.routes.service.as_str(), name))?;
        }
    }
}

impl Caller {
    /// The same as [`Self::exchange`], and a copy goes to the version beside. The call does not wait for it.
    async fn exchange_and_copy<A, T, E>(
        &self,
        method: &Method,
        arguments: &A,
        shadow: Arc<Shadow>,
    ) -> Result<Reply, Failure>
    where
        A: Serialize + Sync,
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let (name, id, repeat) = (method.name(), method.id(), method.repeat());
        let options = self.options.now();
        let target = self.routes.pick(&options.tags, &[]);
        let encoded = &Requests::new(arguments);
        let payload = |encoding| With(move |out: &mut shm_rpc::Writer<'_>| out.put(encoded.of(encoding)?));
        let begun = Instant::now();
        // A copy has no copies; and a call that the version beside answers anyway says nothing.
        let of_charge = target.as_ref().filter(|it| !options.shadow && !shadow.reaches(it.id));
        let heard = of_charge.and_then(|_| self.begin_copy::<T, E>(method, &options, encoded, &shadow));
        drop(shadow);
        let (reply, encoding) = self.exchange_with(name, id, repeat, payload, &options, target).await?;
        if let Some(heard) = heard {
            let took = begun.elapsed();
            // Nobody listens to what comes when the copy has been given up.
            drop(heard.send(Heard { answer: Answered::new(&reply, encoding), took }));
        }
        Ok(reply)
    }

    /// Begins a copy in a task of its own, which is to be told how the call was answered; none: there is no room, or no runtime.
    fn begin_copy<T, E>(
        &self,
        method: &Method,
        options: &CallOptions,
        requests: &Requests<'_, impl Serialize>,
        shadow: &Shadow,
    ) -> Option<oneshot::Sender<Heard>>
    where
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let book = &shadow.book;
        let ready = shadow.target().zip(book.place()).zip(tokio::runtime::Handle::try_current().ok());
        let Some(((target, place), runtime)) = ready else {
            book.note(method.name(), Verdict::Skipped);
            return None;
        };
        let request = requests.of(target.encoding).ok()?;
        let (sender, heard) = oneshot::channel();
        let copy = Copy {
            method: (method.name(), method.id()),
            options: *options,
            request: Arc::clone(request),
            target: Arc::clone(target),
            routes: Arc::clone(&self.routes),
            book: Arc::clone(book),
            place,
            in_force: shadow.in_force(),
            heard,
            compare: compare_answers::<T, E>,
        };
        drop(runtime.spawn(copy.run()));
        Some(sender)
    }
}

/// The request of a call that is sent twice: encoded once for each encoding that one of its targets has, which is one as a rule.
struct Requests<'a, A> {
    arguments: &'a A,
    positional: OnceLock<Result<Arc<[u8]>, Failure>>,
    by_name: OnceLock<Result<Arc<[u8]>, Failure>>,
}

impl<'a, A: Serialize> Requests<'a, A> {
    const fn new(arguments: &'a A) -> Self {
        Self { arguments, positional: OnceLock::new(), by_name: OnceLock::new() }
    }

    fn of(&self, encoding: Encoding) -> Result<&Arc<[u8]>, Failure> {
        let place = match encoding {
            Encoding::Positional => &self.positional,
            Encoding::ByName => &self.by_name,
        };
        let encode = || {
            let bytes = match encoding {
                Encoding::Positional => rmp_serde::to_vec(self.arguments),
                Encoding::ByName => rmp_serde::to_vec_named(self.arguments),
            };
            bytes.map(Arc::from).map_err(|it| Failure::Invalid(format!("encoding: {it}")))
        };
        place.get_or_init(encode).as_ref().map_err(Clone::clone)
    }
}

#[cold]
fn refused_to_a_copy(service: &str, method: &str) -> Failure {
    Failure::Invalid(format!(
        "{service}.{method} was not called: this is a copy of a call, made to compare a new version's answers, and {method} is not \
         marked #[idempotent]"
    ))
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
