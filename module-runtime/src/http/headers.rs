//! What a request's headers say about the calls that are made for it.

use std::sync::Arc;

use http::HeaderMap;
use shm_rpc::{Deadline, Tags, Trace};

use crate::call::{Context, random_id};

/// Until when the base waits for the answer: nanoseconds of CLOCK_MONOTONIC, which is the same for all processes of the
/// machine. The base sets it (and removes what a client has sent by that name).
pub const DEADLINE_HEADER: &str = "mortise-deadline";

/// The tags of the request, as text: `lane=canary;user=17`. They are those of the calls that are made for it. The base sets it (and
/// removes what a client has sent by that name).
pub const TAGS_HEADER: &str = mortise_control::routing::tags::HEADER;

/// The longest request id that is kept.
const REQUEST_ID_MOST: usize = 128;

/// The context of a request. One without a trace begins one, so that its log lines belong together.
pub(super) fn context(headers: &HeaderMap) -> Context {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let trace = text("traceparent").and_then(parse_traceparent);
    let trace = match trace {
        Some(parent) => Trace { span_id: random_id(), ..parent },
        None => Trace { trace_id: random_id(), span_id: random_id(), flags: 0 },
    };
    let deadline = text(DEADLINE_HEADER).and_then(|it| it.parse().ok()).map(Deadline::from_nanos);
    let tags = headers.get(TAGS_HEADER).and_then(|it| Tags::new(it.as_bytes()).ok());
    let mut context = Context::new(deadline, Some(trace), tags.unwrap_or_default());
    context.served = Some(("http", ""));
    context.request = text("x-request-id").filter(|it| it.len() <= REQUEST_ID_MOST).map(Arc::from);
    context
}

/// A W3C trace context: `00-32 digits-16 digits-2 digits`. Later versions may have more at the end.
fn parse_traceparent(text: &str) -> Option<Trace> {
    let mut parts = text.split('-');
    let [version] = digits(parts.next()?)?;
    let trace = Trace {
        trace_id: digits(parts.next()?)?,
        span_id: digits(parts.next()?)?,
        flags: digits::<1>(parts.next()?)?[0],
    };
    let good = version != 0xff
        && (version != 0 || parts.next().is_none())
        && trace.trace_id != [0; 16]
        && trace.span_id != [0; 8];
    good.then_some(trace)
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 || !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let digit = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 };
    Some(std::array::from_fn(|i| digit(text[i * 2]) << 4 | digit(text[i * 2 + 1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_trace_goes_on_in_a_span_of_its_own() {
        let context = context(&headers(&[("traceparent", GOOD), ("x-request-id", "r-1"), (DEADLINE_HEADER, "123")]));
        let trace = context.trace().unwrap();
        assert_eq!(crate::log::hex(&trace.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(crate::log::hex(&trace.span_id), "b7ad6b7169203331");
        assert_eq!((context.request_id(), context.deadline()), (Some("r-1"), Some(Deadline::from_nanos(123))));
    }

    #[test]
    fn its_tags_are_those_of_the_calls_made_for_it() {
        assert_eq!(context(&headers(&[(TAGS_HEADER, "lane=canary")])).tags().as_bytes(), b"lane=canary");
        assert!(context(&headers(&[(TAGS_HEADER, &"x".repeat(29))])).tags().is_empty());
        assert!(context(&headers(&[])).tags().is_empty());
    }

    #[test]
    fn what_is_no_trace_begins_one() {
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replace("00-0", "ff-0"),
            &format!("{GOOD}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
        assert!(parse_traceparent(&format!("{}-more", GOOD.replace("00-0", "01-0"))).is_some());
        assert!(context(&HeaderMap::new()).trace().is_some());
    }
}
