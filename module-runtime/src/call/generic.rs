//! Calls by name, without a typed client: what an operator's `mortise call` and a base need.

use std::time::Duration;

use serde_json::Value;
use shm_rpc::{Deadline, Tags};

use super::json::Json;
use super::method::Repeat;
use super::{CallError, Caller, Failure};

/// Calls a service whose types this program does not know: arguments and results are JSON, or msgpack with field names.
/// Made by [`crate::Worker::generic_client`].
///
/// Where the same worker also has a typed client of the service, make this one first (in the entry): a channel that was opened
/// for the typed client alone carries fields by position.
#[derive(Clone, Debug)]
pub struct GenericClient {
    caller: Caller,
    repeat: Repeat,
}

impl GenericClient {
    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller, repeat: Repeat::AtMostOnce }
    }

    /// The same with calls that wait at most this long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { caller: self.caller.with_timeout(timeout), ..*self }
    }

    /// The same with calls that wait until then.
    #[must_use]
    pub fn with_deadline(&self, deadline: Deadline) -> Self {
        Self { caller: self.caller.with_deadline(deadline), ..*self }
    }

    /// The same with calls that carry these tags.
    #[must_use]
    pub fn with_tags(&self, tags: Tags) -> Self {
        Self { caller: self.caller.with_tags(tags), ..*self }
    }

    /// The same with calls that may be executed more than once. By itself a generic client does not know which methods are
    /// idempotent.
    #[must_use]
    pub fn with_repeat(&self, repeat: Repeat) -> Self {
        Self { caller: self.caller.clone(), repeat }
    }

    /// Waits until somebody answers the service, at most this long; whether somebody does.
    pub async fn is_answered(&self, within: Duration) -> bool {
        self.caller.is_answered(within).await
    }

    /// Calls a method with a JSON object of its arguments.
    ///
    /// # Errors
    /// The method's own error as JSON, or why there is no answer: `Invalid` if `arguments` is no object or does not fit.
    pub async fn call(&self, method: &str, arguments: &Value) -> Result<Value, CallError<Value>> {
        if !arguments.is_object() {
            let message = format!("the arguments of {method} are an object with their names, {{}} for none");
            return Err(Failure::Invalid(message).into());
        }
        let body = rmp_serde::to_vec_named(arguments).map_err(|e| Failure::Invalid(e.to_string()))?;
        let read = |reply: &shm_rpc::Reply| reply.decode::<Json, Json>();
        let result = self.caller.call_encoded(method, self.repeat, &body, read).await?;
        result.map(|it| it.0).map_err(|it| CallError::Module(it.0))
    }

    /// Calls a method with a msgpack map of its arguments; the result is msgpack as the callee wrote it.
    ///
    /// # Errors
    /// The method's own error as msgpack, or why there is no answer.
    pub async fn call_msgpack(&self, method: &str, arguments: &[u8]) -> Result<Vec<u8>, CallError<Vec<u8>>> {
        let read = |reply: &shm_rpc::Reply| Ok((reply.is_fault(), reply.view().to_vec()));
        match self.caller.call_encoded(method, self.repeat, arguments, read).await? {
            (false, bytes) => Ok(bytes),
            (true, bytes) => Err(CallError::Module(bytes)),
        }
    }
}
