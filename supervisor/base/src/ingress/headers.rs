//! Which headers go on, in either direction. Pure.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use module_runtime::http::{DEADLINE_HEADER, TAGS_HEADER};

use super::limits::Forwarded;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers of one connection, RFC 9110, 7.6.1, and those that hyper writes by itself.
const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
];

/// What a `Connection` header cannot have removed: the base sets it, or relies on it.
fn is_kept(name: &HeaderName) -> bool {
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION, header::COOKIE].contains(name)
}

/// Removes what belongs to one connection only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.trim().parse().ok())
        .filter(|it| !is_kept(it))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whether the client asks to go on with the WebSocket protocol. No other protocol is carried: `h2c` would let requests past the
/// routes.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrade
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|it| it.to_str().ok())
            .flat_map(|it| it.split(','))
            .any(|it| it.trim().eq_ignore_ascii_case("upgrade"))
}

/// The headers of a protocol change, in a request or its answer.
pub(crate) fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// The request's id: the client's if it is one, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sound = |it: &u8| it.is_ascii_alphanumeric() || b"-_.:+/=".contains(it);
    match headers.get(REQUEST_ID) {
        Some(it) if (1..=128).contains(&it.len()) && it.as_bytes().iter().all(sound) => it.clone(),
        _ => hex(&random::<16>()),
    }
}

/// How long the request may take, if the client asks for less than it could have. An unreadable wish is none.
pub(crate) fn deadline(headers: &HeaderMap, most: Duration) -> Duration {
    let wish = headers.get(DEADLINE).and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
    wish.map_or(most, |it| Duration::from_millis(it).min(most))
}

/// What the base knows of a request beyond its headers.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) authority: Option<&'a HeaderValue>,
    /// None: the client came by a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) forwarded: Forwarded,
}

/// Turns the client's headers into those for a worker.
pub(crate) fn for_worker(headers: &mut HeaderMap, known: &Known<'_>) {
    strip_hop_by_hop(headers);
    // The body's own length is authoritative; hyper writes it.
    headers.remove(header::CONTENT_LENGTH);
    // A client's wish has been heard; workers are told the deadline itself, and only by the base.
    headers.remove(DEADLINE);
    headers.remove(DEADLINE_HEADER);
    // Tags are what routes make of a request.
    headers.remove(TAGS_HEADER);
    match known.authority {
        Some(authority) => headers.insert(header::HOST, authority.clone()),
        // HTTP/1.0 without one; workers are spoken to in HTTP/1.1, which needs it.
        None => headers.insert(header::HOST, HeaderValue::from_static("")),
    };
    headers.insert(REQUEST_ID, known.request_id.clone());
    if !headers.get(TRACEPARENT).is_some_and(is_traceparent) || headers.get_all(TRACEPARENT).iter().count() > 1 {
        headers.insert(TRACEPARENT, new_traceparent());
        headers.remove(TRACESTATE);
    }
    forward(headers, known);
}

fn forward(headers: &mut HeaderMap, known: &Known<'_>) {
    let peer = known.peer.and_then(|it| HeaderValue::from_str(&it.to_canonical().to_string()).ok());
    let before = match known.forwarded {
        Forwarded::Append => headers.contains_key(FORWARDED_FOR),
        Forwarded::Replace => {
            for name in [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED] {
                headers.remove(name);
            }
            false
        }
    };
    if let Some(peer) = peer {
        headers.append(FORWARDED_FOR, peer);
    }
    if !before {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(authority) = known.authority {
            headers.insert(FORWARDED_HOST, authority.clone());
        }
    }
}

/// Turns a worker's headers into those for the client. `Server` goes: what runs behind the ingress is nobody's business.
pub(crate) fn for_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    strip_hop_by_hop(headers);
    headers.remove(header::SERVER);
    headers.insert(REQUEST_ID, request_id.clone());
}

/// W3C Trace Context, version 00 (later versions only add to it).
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let digits = |it: &[u8]| it.iter().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(it));
    let not_zero = |it: &[u8]| it.iter().any(|it| *it != b'0');
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (bytes.get(..3), bytes.get(3..36), bytes.get(36..53), bytes.get(53..55))
    else {
        return false;
    };
    let dashes = version[2] == b'-' && trace[32] == b'-' && span[16] == b'-';
    let length = bytes.len() == 55 || (version != b"00-" && bytes[55] == b'-');
    dashes
        && length
        && version != b"ff-"
        && [&version[..2], &trace[..32], &span[..16], flags].into_iter().all(digits)
        && not_zero(&trace[..32])
        && not_zero(&span[..16])
}

fn new_traceparent() -> HeaderValue {
    let random = random::<24>();
    let text = |it: &[u8]| it.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let value = format!("00-{}-{}-01", text(&random[..16]), text(&random[16..]));
    HeaderValue::from_str(&value).unwrap_or_else(|_| unreachable!("hexadecimal digits and dashes"))
}

fn hex(bytes: &[u8]) -> HeaderValue {
    let text: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    HeaderValue::from_str(&text).unwrap_or_else(|_| unreachable!("hexadecimal digits"))
}

/// Ids must differ, not be secret: a kernel that cannot give random bytes yet is no reason to fail a request.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        use std::hash::{BuildHasher as _, RandomState};
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&RandomState::new().hash_one(part.len()).to_ne_bytes()[..part.len()]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn sent(pairs: &[(&'static str, &'static str)], forwarded: Forwarded) -> HeaderMap {
        let mut headers = headers(pairs);
        let id = HeaderValue::from_static("id-1");
        let authority = HeaderValue::from_static("a.example:80");
        let known = Known {
            request_id: &id,
            authority: Some(&authority),
            peer: Some("::ffff:192.0.2.7".parse().unwrap()),
            forwarded,
        };
        for_worker(&mut headers, &known);
        headers
    }

    fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let got = sent(
            &[
                ("connection", "keep-alive, X-Private"),
                ("connection", "x-other,, bad name"),
                ("x-private", "1"),
                ("x-other", "2"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("proxy-authorization", "secret"),
                ("content-length", "3"),
                ("mortise-deadline", "1"),
                ("x-deadline-ms", "1"),
                ("accept", "*/*"),
            ],
            Forwarded::Replace,
        );
        let mut names: Vec<_> = got.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "host",
                "traceparent",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-request-id"
            ]
        );
    }

    #[test]
    fn a_connection_header_removes_nothing_that_workers_rely_on() {
        let got = sent(
            &[
                ("connection", "authorization, host, x-forwarded-for, x-request-id, cookie"),
                ("authorization", "b"),
                ("cookie", "c"),
            ],
            Forwarded::Replace,
        );
        for name in ["authorization", "host", "x-forwarded-for", "x-request-id", "cookie"] {
            assert!(got.contains_key(name), "{name}");
        }
    }

    #[test]
    fn what_a_client_says_about_itself_is_believed_only_behind_a_proxy() {
        let said = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b.example"),
            ("forwarded", "for=10.0.0.1"),
        ];
        let replaced = sent(&said, Forwarded::Replace);
        assert_eq!(all(&replaced, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(all(&replaced, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&replaced, "x-forwarded-host"), ["a.example:80"]);
        assert!(!replaced.contains_key("forwarded"));
        let appended = sent(&said, Forwarded::Append);
        assert_eq!(all(&appended, "x-forwarded-for"), ["10.0.0.1", "192.0.2.7"]);
        assert_eq!(all(&appended, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&appended, "x-forwarded-host"), ["b.example"]);
    }

    #[test]
    fn a_valid_id_is_kept_and_another_replaced() {
        let id = |value: &'static str| request_id(&headers(&[("x-request-id", value)]));
        assert_eq!(id("abc-123_X.y"), "abc-123_X.y");
        for bad in ["", "a b", "a\"b", "{}", "a,b"] {
            let made = id(bad);
            assert_eq!(made.len(), 32, "{bad:?}");
            assert_ne!(made, id(bad));
        }
        assert_eq!(request_id(&headers(&[])).len(), 32);
    }

    #[test]
    fn a_valid_traceparent_is_kept_and_another_replaced() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        for it in [good, later] {
            let got = sent(&[("traceparent", it), ("tracestate", "a=b")], Forwarded::Replace);
            assert_eq!((all(&got, "traceparent"), all(&got, "tracestate")), (vec![it], vec!["a=b"]));
        }
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736x00f067aa0ba902b7-01",
        ] {
            let got = sent(&[("traceparent", bad), ("tracestate", "a=b")], Forwarded::Replace);
            let made = got["traceparent"].clone();
            assert!(is_traceparent(&made), "{made:?}");
            assert_ne!(made, bad);
            assert!(!got.contains_key("tracestate"));
        }
        let twice = sent(&[("traceparent", good), ("traceparent", later)], Forwarded::Replace);
        assert_eq!(twice.get_all("traceparent").iter().count(), 1);
        assert_ne!(twice["traceparent"], good);
    }

    #[test]
    fn only_websocket_is_an_upgrade() {
        let asks = |upgrade: &'static str, connection: &'static str| {
            asks_for_websocket(&headers(&[("upgrade", upgrade), ("connection", connection)]))
        };
        assert!(asks("WebSocket", "keep-alive, Upgrade"));
        assert!(!asks("websocket", "keep-alive"));
        assert!(!asks("h2c", "upgrade, http2-settings"));
        assert!(!asks("websocket, h2c", "upgrade"));
    }

    #[test]
    fn a_client_may_wish_for_less_time_only() {
        let most = Duration::from_secs(10);
        let wish = |value: &'static str| deadline(&headers(&[("x-deadline-ms", value)]), most);
        assert_eq!(wish("250"), Duration::from_millis(250));
        assert_eq!(wish("0"), Duration::ZERO);
        for it in ["999999", "-1", "soon", ""] {
            assert_eq!(wish(it), most, "{it}");
        }
    }

    #[test]
    fn the_answer_is_neutral_and_carries_the_id() {
        let mut answer =
            headers(&[("server", "x/1.0"), ("connection", "close"), ("x-a", "b"), ("content-length", "3")]);
        for_client(&mut answer, &HeaderValue::from_static("id-1"));
        assert_eq!(answer, headers(&[("x-a", "b"), ("content-length", "3"), ("x-request-id", "id-1")]));
    }
}
