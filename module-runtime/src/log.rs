//! `tracing` events as structured lines on stderr, which the supervisor reads. The form is [`mortise_control::log_line`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use mortise_control::log_line::{Level, LogEvent};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::call::Context;

/// What is logged when nothing else is said.
const DEFAULT_FILTER: &str = "info";

/// Sends events to stderr from now on. `filter` is the configuration value `log`, in the form of `RUST_LOG`.
pub(crate) fn install(filter: Option<&str>) {
    let (filter, fault) = match filter.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
        None => (EnvFilter::new(DEFAULT_FILTER), None),
    };
    // Whoever has installed a subscriber before keeps it.
    let _ = tracing_subscriber::registry().with(filter).with(Lines(Stderr)).try_init();
    if let Some(error) = fault {
        tracing::warn!(%error, "the configuration value `log` is no filter; {DEFAULT_FILTER:?} is used");
    }
}

/// Where whole lines go.
trait Sink: Send + Sync + 'static {
    fn write(&self, line: &[u8]);
}

struct Stderr;

impl Sink for Stderr {
    fn write(&self, line: &[u8]) {
        // One write for one line, under the lock that println's sibling takes: lines of threads do not mix. There is nobody to
        // tell when stderr is gone.
        let _ = std::io::stderr().lock().write_all(line);
    }
}

struct Lines<S>(S);

/// A span's fields, kept with it.
struct SpanFields(BTreeMap<String, String>);

impl<C, S> Layer<C> for Lines<S>
where
    C: Subscriber + for<'a> LookupSpan<'a>,
    S: Sink,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, C>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.named));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, C>) {
        let Some(span) = context.span(id) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<SpanFields>() {
            let mut fields = Fields { named: std::mem::take(&mut kept.0), ..Fields::default() };
            values.record(&mut fields);
            kept.0 = fields.named;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, C>) {
        thread_local! {
            static WRITING: RefCell<()> = const { RefCell::new(()) };
        }
        // An event that arises while one is written would write into itself.
        WRITING.with(|writing| {
            if let Ok(_writing) = writing.try_borrow_mut() {
                self.0.write(&line(event, &context));
            }
        });
    }
}

fn line<C: Subscriber + for<'a> LookupSpan<'a>>(event: &Event<'_>, context: &LayerContext<'_, C>) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let Fields { text, mut named } = fields;
    // From the inside out: the event's own fields and those of inner spans win.
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(kept) = span.extensions().get::<SpanFields>() {
            for (name, value) in &kept.0 {
                named.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    let trace = Context::with_current(|current| {
        if let Some((service, method)) = current.served {
            named.entry("service".into()).or_insert_with(|| service.into());
            if !method.is_empty() {
                named.entry("method".into()).or_insert_with(|| method.into());
            }
        }
        if let Some(request) = &current.request {
            named.entry("request".into()).or_insert_with(|| request.to_string());
        }
        current.trace().map(|it| hex(&it.trace_id))
    });
    let level = match *event.metadata().level() {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    };
    let target = event.metadata().target().to_owned();
    LogEvent { level, target, text, trace: trace.flatten(), fields: named }.to_line()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Default)]
struct Fields {
    text: String,
    named: BTreeMap<String, String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.text = value;
        } else {
            self.named.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Sink for Kept {
        fn write(&self, line: &[u8]) {
            self.0.lock().unwrap().push(line.to_vec());
        }
    }

    fn logged(code: impl FnOnce()) -> Vec<LogEvent> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(Lines(kept.clone()));
        tracing::subscriber::with_default(subscriber, code);
        let lines = kept.0.lock().unwrap();
        lines.iter().map(|it| LogEvent::parse(it).expect("a structured line")).collect()
    }

    #[test]
    fn an_event_has_its_fields_those_of_its_spans_and_the_trace_of_its_call() {
        let trace = shm_rpc::Trace { trace_id: [0xab; 16], span_id: [1; 8], flags: 1 };
        let events = logged(|| {
            let context = Context::new(None, Some(trace), shm_rpc::Tags::default());
            context.sync_scope(|| {
                let outer = tracing::info_span!("outer", user = 7, word = "outer", later = tracing::field::Empty);
                outer.record("later", true);
                let _outer = outer.enter();
                let _inner = tracing::info_span!("inner", step = "two").entered();
                tracing::warn!(word = "teh", "looked\nup");
            });
            tracing::error!(error = %"no", "alone");
        });
        assert_eq!((events[0].level, events[0].text.as_str()), (Level::Warn, "looked\nup"));
        assert_eq!(events[0].trace.as_deref(), Some("ab".repeat(16).as_str()));
        let fields = |it: &LogEvent| it.fields.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(fields(&events[0]), "later=true step=two user=7 word=teh");
        assert_eq!((fields(&events[1]).as_str(), events[1].trace.as_deref()), ("error=no", None));
        assert!(events[0].target.ends_with("log::tests"));
    }
}
