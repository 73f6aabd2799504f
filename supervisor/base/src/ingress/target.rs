//! Where a request wants to go, read from its head. Pure.

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Host and path of a request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestTarget {
    /// As it came (or from the absolute form): what the worker gets as `Host`. None only in HTTP/1.0.
    pub(crate) authority: Option<HeaderValue>,
    /// In lower case, without port and without the dot at its end.
    pub(crate) host: Option<String>,
    /// Path and query, always beginning with `/`.
    pub(crate) path_and_query: Uri,
}

/// Why a target is refused, for the client.
pub(crate) type BadTarget = &'static str;

impl RequestTarget {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, BadTarget> {
        let authority = match uri.authority() {
            // RFC 9112, 3.2.2: the absolute form goes before the Host header, which is not looked at.
            Some(authority) => {
                if !matches!(uri.scheme_str(), Some("http" | "https")) {
                    return Err("the request target has no http scheme");
                }
                Some(HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is malformed")?)
            }
            None => headers.get(header::HOST).filter(|it| !it.is_empty()).cloned(),
        };
        let host = authority.as_ref().map(host_of).transpose()?;
        let path_and_query = match uri.path_and_query() {
            Some(it) if it.as_str().starts_with('/') => it.clone(),
            // `http://host` and `http://host?query`
            Some(it) if uri.authority().is_some() && it.as_str().starts_with('?') => {
                format!("/{}", it.as_str()).parse().map_err(|_| "the request target is malformed")?
            }
            None if uri.authority().is_some() => http::uri::PathAndQuery::from_static("/"),
            Some(_) | None => return Err("the request target is not a path"),
        };
        if leaves_its_prefix(path_and_query.path()) {
            return Err("the path has '.' or '..' segments");
        }
        Ok(Self { authority, host, path_and_query: path_and_query.into() })
    }

    pub(crate) fn path(&self) -> &str {
        self.path_and_query.path()
    }
}

fn host_of(value: &HeaderValue) -> Result<String, BadTarget> {
    let text = value.to_str().map_err(|_| "the host is malformed")?;
    if text.contains('@') {
        return Err("the host has user information");
    }
    let authority: Authority = text.parse().map_err(|_| "the host is malformed")?;
    let port = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    let port_is_sound = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|it| it.is_ascii_digit()),
    };
    if !port_is_sound {
        return Err("the host's port is malformed");
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let name = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    match host.is_empty() {
        true => Err("the host is empty"),
        false if bracketed || host.bytes().all(name) => Ok(host),
        false => Err("the host is malformed"),
    }
}

/// Whether a worker could take the path for one outside of the prefix that it was routed by: it has a segment `.` or `..`, plain
/// or encoded, also between encoded slashes.
fn leaves_its_prefix(path: &str) -> bool {
    let bytes = path.as_bytes();
    let (mut at, mut dots, mut other) = (0, 0, false);
    loop {
        let (byte, len) = match bytes.get(at) {
            None => (b'/', 1),
            Some(b'%') => match bytes.get(at + 1..at + 3).map(<[u8]>::to_ascii_lowercase).as_deref() {
                Some(b"2e") => (b'.', 3),
                Some(b"2f" | b"5c") => (b'/', 3),
                _ => (b'%', 1),
            },
            Some(b'\\') => (b'/', 1),
            Some(byte) => (*byte, 1),
        };
        match byte {
            b'/' if !other && (dots == 1 || dots == 2) => return true,
            b'/' => (dots, other) = (0, false),
            b'.' => dots += 1,
            _ => other = true,
        }
        if at >= bytes.len() {
            return false;
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, host: Option<&str>) -> Result<(Option<String>, Option<String>, String), BadTarget> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let target = RequestTarget::of(&uri.parse().unwrap(), &headers)?;
        let authority = target.authority.map(|it| it.to_str().unwrap().to_owned());
        Ok((target.host, authority, target.path_and_query.to_string()))
    }

    fn some(host: &str, authority: &str, path: &str) -> Result<(Option<String>, Option<String>, String), BadTarget> {
        Ok((Some(host.to_owned()), Some(authority.to_owned()), path.to_owned()))
    }

    #[test]
    fn the_host_is_lower_case_and_without_port() {
        assert_eq!(of("/a?b=c", Some("Example.ORG:8080")), some("example.org", "Example.ORG:8080", "/a?b=c"));
        assert_eq!(of("/", Some("example.org.")), some("example.org", "example.org.", "/"));
        assert_eq!(of("/", Some("[::1]:80")), some("[::1]", "[::1]:80", "/"));
        assert_eq!(of("/", None), Ok((None, None, "/".to_owned())));
    }

    #[test]
    fn the_absolute_form_goes_before_the_host_header() {
        assert_eq!(of("http://a.example/x?y", Some("b.example")), some("a.example", "a.example", "/x?y"));
        assert_eq!(of("http://a.example", Some("b.example")), some("a.example", "a.example", "/"));
        assert_eq!(of("http://a.example?q", Some("b.example")), some("a.example", "a.example", "/?q"));
        assert!(of("ftp://a.example/", Some("a.example")).is_err());
        assert!(of("http://user:secret@a.example/", Some("a.example")).is_err());
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for host in ["a b", "a/b", "user@host", "host:port", "host:123456", "host:80:80", "[::1", ".", "a,b", "ä"] {
            assert!(of("/", Some(host)).is_err(), "{host}");
        }
    }

    #[test]
    fn other_forms_of_a_target_are_refused() {
        assert!(of("*", Some("a")).is_err());
        assert!(of("a.example:443", Some("a")).is_err());
    }

    #[test]
    fn no_path_leaves_its_prefix() {
        for bad in [
            "/a/..",
            "/a/../b",
            "/./a",
            "/.",
            "/..",
            "/%2e",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a%2f..%2fb",
            "/a/..%5cb",
            "/..%2f",
            "/a%2F%2e%2e",
            "/a/%2e?x",
        ] {
            assert!(of(bad, Some("a")).is_err(), "{bad}");
        }
        for good in [
            "/",
            "/...",
            "/a..b",
            "/..a",
            "/a..",
            "/.a/.b",
            "/a.b/c",
            "/%2e%2e%2e",
            "/a?../..",
            "/%",
            "/%2",
            "/a%20..b",
        ] {
            assert!(of(good, Some("a")).is_ok(), "{good}");
        }
    }
}
