//! The gate's reading of a connection and hyper's are the same, whatever comes.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::gate::{Gate, Turnstile};
use super::*;

/// Gives bytes in pieces of given sizes, then the end; takes whatever is written.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    pieces: Vec<usize>,
    piece: usize,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let piece = self.pieces[self.piece % self.pieces.len()];
        self.piece += 1;
        let end = (self.at + piece.min(buffer.remaining())).min(self.bytes.len());
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a service behind the gate gets of these bytes: path and body of each request, and how many were refused.
async fn seen(bytes: Vec<u8>, pieces: Vec<usize>) -> (Vec<(String, Vec<u8>)>, usize) {
    let got = Mutex::new((Vec::new(), 0));
    let turnstile = Arc::new(Turnstile::default());
    let gate = Gate::new(Script { bytes, at: 0, pieces, piece: 0 }, &Limits::default(), Arc::clone(&turnstile));
    let service = service_fn(|request: Request<Incoming>| {
        let ticket = turnstile.next();
        let got = &got;
        async move {
            if ticket.refusal.is_some() {
                got.lock().unwrap().1 += 1;
                return Ok(text("refused"));
            }
            let path = if request.uri().authority().is_some() { "" } else { request.uri().path() };
            let path = path.trim_start_matches('*').to_owned();
            if let Ok(body) = request.into_body().collect().await {
                got.lock().unwrap().0.push((path, body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(text("ok"))
        }
    });
    // Until the end: a refused connection is closed by hyper, another by the end of the bytes.
    let connection =
        hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(gate), service);
    let _ = tokio::time::timeout(PATIENCE, connection).await.expect("it ends");
    got.into_inner().unwrap()
}

/// The same by a reader that knows only what is strictly right.
fn strictly(mut bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, usize) {
    use super::super::framing::{self, Head, Taken};
    let mut requests = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let (len, mut body) =
            match framing::head(bytes, &mut 0, Limits::default().head_bytes, Limits::default().headers) {
                Ok(Head::Complete { len, body }) => (len, body),
                Ok(Head::Partial) => return (requests, 0),
                Err(_) => return (requests, 1),
            };
        let head = String::from_utf8_lossy(&bytes[..len]).into_owned();
        let chunked = matches!(body, framing::Body::Chunked(_));
        let Ok(Taken::Ended(body_len)) = body.take(&bytes[len..]) else { return (requests, 0) };
        let raw = &bytes[len..len + body_len];
        let body = if chunked { unchunk(raw) } else { raw.to_vec() };
        // Other forms of a target are compared by their bodies alone.
        let path = head.split(' ').nth(1).filter(|it| it.starts_with('/')).unwrap_or_default();
        requests.push((path.split('?').next().unwrap_or_default().to_owned(), body));
        bytes = &bytes[len + body_len..];
    }
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = raw.iter().position(|it| *it == b'\r').unwrap();
        let size = std::str::from_utf8(&raw[..line]).unwrap().split(';').next().unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&raw[line + 2..line + 2 + size]);
        raw = &raw[line + 2 + size + 2..];
    }
}

#[tokio::test]
async fn however_it_is_cut_and_spoilt() {
    let parts: [&[u8]; 8] = [
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/1",
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
        b"PUT /d HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
        b"\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
        b"POST /g HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /h HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let alphabet = b"\r\n\r\n 0123456789abfxAF:;,\t\0\x7f\xffGET/HTPChunkedontent-Lengthransfer-Encoding";
    for round in 0..4000 {
        let count = 1 + random(4);
        let mut bytes: Vec<u8> = (0..count).flat_map(|_| parts[random(parts.len())]).copied().collect();
        for _ in 0..random(4) {
            let (at, byte) = (random(bytes.len()), alphabet[random(alphabet.len())]);
            match random(3) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let pieces = (0..3).map(|_| 1 + random(if round % 2 == 0 { 8 } else { 400 })).collect();
        let expected = strictly(&bytes);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let got = seen(bytes, pieces).await;
        // hyper may end earlier: a client that says `close`, a target that it cannot parse. It must never see anything else.
        assert!(expected.0.starts_with(&got.0), "{shown:?}\nstrictly {:?}\nseen {:?}", expected.0, got.0);
        assert!(got.1 <= expected.1, "{shown:?}");
    }
}
