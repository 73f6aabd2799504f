//! What a client was told about its calls, and what they inherit from the call that they are made in.

use std::time::Duration;

use shm_rpc::{CallOptions, Deadline, Tags};

use super::context::Context;

/// How long a call waits when nothing else is said and it is made in no other call: 30 seconds.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The options of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) patience: Patience,
    pub(crate) tags: Option<Tags>,
}

/// How long calls wait, beside what they inherit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// [`DEFAULT_TIMEOUT`] where no deadline is inherited.
    Default,
    For(Duration),
    Until(Deadline),
    /// As long as it takes, where no deadline is inherited.
    Unlimited,
}

impl Options {
    pub(crate) const DEFAULT: Self = Self { patience: Patience::Default, tags: None };

    /// The options of one call, made now: never more time than the surrounding call has.
    pub(crate) fn now(&self) -> CallOptions {
        let mut options = Context::with_current(|it| it.options).unwrap_or(CallOptions::NONE);
        if let Some(tags) = self.tags {
            options.tags = tags;
        }
        match self.patience {
            Patience::Default if options.deadline.is_some() => options,
            Patience::Default => options.until(Deadline::after(DEFAULT_TIMEOUT)),
            Patience::For(timeout) => options.until(Deadline::after(timeout)),
            Patience::Until(deadline) => options.until(deadline),
            Patience::Unlimited => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_call_has_the_earlier_deadline_and_the_same_trace_and_tags() {
        let soon = Deadline::after(Duration::from_secs(1));
        let tags = Tags::new(b"canary").unwrap();
        let trace = shm_rpc::Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        let inside = |options: Options| Context::new(Some(soon), Some(trace), tags).sync_scope(|| options.now());
        let with = |patience| Options { patience, tags: None };
        for patience in [Patience::Default, Patience::Unlimited, Patience::For(Duration::from_secs(9))] {
            let options = inside(with(patience));
            assert_eq!(
                (options.deadline, options.tags, options.trace),
                (Some(soon), tags, Some(trace)),
                "{patience:?}"
            );
        }
        let sooner = Deadline::from_nanos(1);
        assert_eq!(inside(with(Patience::Until(sooner))).deadline, Some(sooner));
        let own = Tags::new(b"own").unwrap();
        assert_eq!(inside(Options { tags: Some(own), ..Options::DEFAULT }).tags, own);
    }

    #[test]
    fn a_call_in_no_call_has_the_default_time() {
        let remaining = Options::DEFAULT.now().deadline.unwrap().remaining();
        assert!(remaining <= DEFAULT_TIMEOUT && remaining > DEFAULT_TIMEOUT / 2);
        assert_eq!(Options { patience: Patience::Unlimited, tags: None }.now().deadline, None);
    }
}
