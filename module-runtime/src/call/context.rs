//! What a call inherits from the call or request that it is made in: deadline, trace, tags. Task-local.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;

use mortise_control::PeerInfo;
use shm_rpc::{CallOptions, Deadline, Tags, Trace};

/// The call or request in which code runs. Calls made there inherit its deadline, trace and tags.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub(crate) options: CallOptions,
    /// The service and method that is being answered; `http` and the empty name for a request.
    pub(crate) served: Option<(&'static str, &'static str)>,
    /// `X-Request-Id` of the HTTP request.
    pub(crate) request: Option<Arc<str>>,
    pub(crate) caller: Option<Arc<PeerInfo>>,
}

tokio::task_local! {
    static CURRENT: Context;
}

impl Context {
    /// The context of the running task, if it answers a call or a request.
    ///
    /// A task that a handler spawns does not inherit it: hand it over with [`Context::scope`].
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Reads the current context without a copy.
    pub(crate) fn with_current<R>(read: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(read).ok()
    }

    /// Runs `future` in this context.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Runs `code` in this context.
    pub(crate) fn sync_scope<R>(self, code: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, code)
    }

    /// A context of one's own, for calls that belong to no call: a job that runs every hour, say.
    #[must_use]
    pub fn new(deadline: Option<Deadline>, trace: Option<Trace>, tags: Tags) -> Self {
        Self { options: CallOptions { deadline, trace, tags, ..CallOptions::NONE }, ..Self::default() }
    }

    /// The context of a call that is being answered: its options, in a span of its own.
    pub(crate) fn of_call(
        options: CallOptions,
        service: &'static str,
        method: &'static str,
        caller: Arc<PeerInfo>,
    ) -> Self {
        let trace = options.trace.map(|it| Trace { span_id: random_id(), ..it });
        let options = CallOptions { trace, ..options };
        Self { options, served: Some((service, method)), request: None, caller: Some(caller) }
    }

    /// Who makes the call that is being answered, as the supervisor has told it; none in an HTTP request.
    #[must_use]
    pub fn caller(&self) -> Option<&PeerInfo> {
        self.caller.as_deref()
    }

    /// `X-Request-Id` of the HTTP request that is being answered.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// Whether the call is a copy, made to compare a new version's answers with those of the version in charge: nobody uses what it is
    /// answered. Calls made for it are copies too, and those of methods that are not idempotent are refused. What has an effect
    /// elsewhere (a mail, a payment) is to be left out.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.options.shadow
    }

    /// Until when the answer is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.options.deadline
    }

    /// The trace it belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        self.options.trace
    }

    /// The tags it carries.
    #[must_use]
    pub fn tags(&self) -> Tags {
        self.options.tags
    }
}

/// A random, non-zero id: 8 or 16 bytes, for spans and traces. Not secret.
pub(crate) fn random_id<const N: usize>() -> [u8; N] {
    loop {
        let mut id = [0; N];
        for chunk in id.chunks_mut(8) {
            let random = random().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        if id.iter().any(|b| *b != 0) {
            return id;
        }
    }
}

/// A random number that nobody may rely on to be secret: xorshift, seeded by the standard library's hasher keys.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    thread_local! {
        static STATE: Cell<u64> = Cell::new(std::hash::RandomState::new().build_hasher().finish() | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}
