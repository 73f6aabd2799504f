//! Where one request ends and the next begins, read strictly. Pure.
//!
//! hyper parses the requests too, as leniently as the RFC permits: it drops a `Content-Length` beside a `Transfer-Encoding`, merges
//! equal lengths and takes a bare LF for a line's end. What is lenient in one of two parsers in a row is how requests are
//! smuggled, so only what no two parsers can read differently gets past this one.

/// Bytes of chunk extensions and trailers in one body. They are read and dropped.
const EXTRAS: usize = 8 << 10;

/// Why a request is refused before anything of it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the request line or a header is malformed")]
    Head,
    #[error("a line ends without a carriage return")]
    BareLf,
    #[error("the request line and headers are larger than allowed")]
    HeadTooLarge,
    #[error("HTTP/1.1 needs exactly one Host header")]
    Host,
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndEncoding,
    #[error("Transfer-Encoding is something else than 'chunked'")]
    TransferEncoding,
    #[error("the chunked body is malformed")]
    Chunk,
    #[error("the request line and headers did not arrive in time")]
    HeadTime,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes; 0 for none.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
}

/// How far a head has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More bytes are needed.
    Partial,
    /// It ends after `len` bytes, and this follows.
    Complete {
        /// Bytes of the head.
        len: usize,
        /// What follows.
        body: Body,
    },
}

/// Reads a head at the beginning of `bytes`. `seen` is how many of them have been looked at before, so that a head that trickles
/// in is scanned once.
pub(crate) fn head(bytes: &[u8], seen: &mut usize, most: usize, headers: usize) -> Result<Head, Malformed> {
    let len = loop {
        let Some(lf) = bytes[*seen..].iter().position(|it| *it == b'\n').map(|it| *seen + it) else {
            *seen = bytes.len();
            return if bytes.len() > most { Err(Malformed::HeadTooLarge) } else { Ok(Head::Partial) };
        };
        if lf == 0 || bytes[lf - 1] != b'\r' {
            return Err(Malformed::BareLf);
        }
        *seen = lf + 1;
        if bytes[..lf].ends_with(b"\r\n\r") {
            break lf + 1;
        }
    };
    *seen = 0;
    if len > most {
        return Err(Malformed::HeadTooLarge);
    }
    let body = body_of(&bytes[..len], headers)?;
    Ok(Head::Complete { len, body })
}

fn body_of(head: &[u8], most: usize) -> Result<Body, Malformed> {
    let mut room = vec![httparse::EMPTY_HEADER; most];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLarge),
        Ok(_) | Err(_) => return Err(Malformed::Head),
    }
    let http_1_1 = request.version == Some(1);
    let (mut hosts, mut length, mut chunked) = (0, None, false);
    for it in request.headers.iter() {
        if it.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if it.name.eq_ignore_ascii_case("content-length") {
            let digits = (1..=18).contains(&it.value.len()) && it.value.iter().all(u8::is_ascii_digit);
            if !digits || length.is_some() {
                return Err(Malformed::ContentLength);
            }
            length = Some(it.value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0')));
        } else if it.name.eq_ignore_ascii_case("transfer-encoding") {
            if !http_1_1 || chunked || !it.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            chunked = true;
        }
    }
    if hosts > 1 || (hosts == 0 && http_1_1) {
        return Err(Malformed::Host);
    }
    match (length, chunked) {
        (Some(_), true) => Err(Malformed::LengthAndEncoding),
        (None, true) => Ok(Body::Chunked(Chunks::default())),
        (length, false) => Ok(Body::Length(length.unwrap_or(0))),
    }
}

/// Where in a chunked body the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: At,
    extras: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// In what follows a size, before its CR.
    Extension { size: u64 },
    /// Before the LF that ends a size line.
    SizeLf { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// Before the CR after the data.
    DataCr,
    /// Before the LF after the data.
    DataLf,
    /// At the start of a trailer line or of the empty line that ends the body.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// Before the LF of a trailer line.
    TrailerLf,
    /// Before the LF of the empty line.
    EndLf,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size { size: 0, digits: 0 }, extras: 0 }
    }
}

/// How much of some bytes belongs to a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All of them, and more are to come.
    All,
    /// So many; the body ends after them.
    Ended(usize),
}

impl Body {
    /// Takes the next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        match self {
            Self::Length(left) if *left > bytes.len() as u64 => {
                *left -= bytes.len() as u64;
                Ok(Taken::All)
            }
            Self::Length(left) => {
                let ended = *left as usize;
                *left = 0;
                Ok(Taken::Ended(ended))
            }
            Self::Chunked(chunks) => chunks.take(bytes),
        }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if let At::Data { left } = self.at {
                let here = left.min((bytes.len() - at) as u64);
                at += here as usize;
                self.at = if here == left { At::DataCr } else { At::Data { left: left - here } };
                continue;
            }
            at += 1;
            if self.step(byte)? {
                return Ok(Taken::Ended(at));
            }
        }
        Ok(Taken::All)
    }

    /// One byte outside of the data. True: it was the body's last.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.at = match (self.at, byte) {
            (At::Size { size, digits }, digit) if digit.is_ascii_hexdigit() && digits < 15 => {
                let value = (digit as char).to_digit(16).map_or(0, u64::from);
                At::Size { size: size * 16 + value, digits: digits + 1 }
            }
            (At::Size { size, digits: 1.. }, b'\r') | (At::Extension { size }, b'\r') => At::SizeLf { size },
            (At::Size { size, digits: 1.. }, b';') => At::Extension { size },
            (At::Extension { size }, byte) if is_text(byte) => {
                self.count_extra()?;
                At::Extension { size }
            }
            (At::SizeLf { size: 0 }, b'\n') => At::TrailerStart,
            (At::SizeLf { size }, b'\n') => At::Data { left: size },
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { size: 0, digits: 0 },
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::TrailerStart | At::Trailer, byte) if is_text(byte) => {
                self.count_extra()?;
                At::Trailer
            }
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::EndLf, b'\n') => return Ok(true),
            _ => return Err(Malformed::Chunk),
        };
        Ok(false)
    }

    fn count_extra(&mut self) -> Result<(), Malformed> {
        self.extras += 1;
        if self.extras > EXTRAS { Err(Malformed::Chunk) } else { Ok(()) }
    }
}

const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Head, Malformed> {
        head(bytes, &mut 0, 4096, 32)
    }

    fn with(headers: &str) -> Result<Body, Malformed> {
        match read(format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())? {
            Head::Complete { body, .. } => Ok(body),
            Head::Partial => panic!("{headers:?} is partial"),
        }
    }

    #[test]
    fn the_body_follows_from_the_head() {
        assert_eq!(with(""), Ok(Body::Length(0)));
        assert_eq!(with("Content-Length: 12\r\n"), Ok(Body::Length(12)));
        assert_eq!(with("content-length:\t0012 \r\n"), Ok(Body::Length(12)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunked(Chunks::default())));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for (headers, why) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Malformed::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", Malformed::LengthAndEncoding),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", Malformed::ContentLength),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Malformed::ContentLength),
            ("Content-Length: 1, 1\r\n", Malformed::ContentLength),
            ("Content-Length: +1\r\n", Malformed::ContentLength),
            ("Content-Length: -1\r\n", Malformed::ContentLength),
            ("Content-Length: 0x1\r\n", Malformed::ContentLength),
            ("Content-Length: \r\n", Malformed::ContentLength),
            ("Content-Length: 1 2\r\n", Malformed::ContentLength),
            ("Content-Length: 1234567890123456789\r\n", Malformed::ContentLength),
            ("Content-Length : 1\r\n", Malformed::Head),
            (" Content-Length: 1\r\n", Malformed::Head),
            ("X: a\r\n folded\r\n", Malformed::Head),
            ("X: a\rContent-Length: 1\r\n", Malformed::Head),
            ("X: a\0b\r\n", Malformed::Head),
            ("X: a\nContent-Length: 1\r\n", Malformed::BareLf),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Malformed::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", Malformed::TransferEncoding),
            ("Transfer-Encoding: identity\r\n", Malformed::TransferEncoding),
            ("Transfer-Encoding: xchunked\r\n", Malformed::TransferEncoding),
            ("Transfer-Encoding: \"chunked\"\r\n", Malformed::TransferEncoding),
            ("Transfer-Encoding: \x0bchunked\r\n", Malformed::Head),
            ("Transfer-Encoding:\r\n", Malformed::TransferEncoding),
            ("Host: b\r\n", Malformed::Host),
        ] {
            assert_eq!(with(headers), Err(why), "{headers:?}");
        }
    }

    #[test]
    fn http_1_0_has_no_chunks_and_needs_no_host() {
        let old = |headers: &str| read(format!("POST / HTTP/1.0\r\n{headers}\r\n").as_bytes());
        assert!(matches!(old("Content-Length: 3\r\n"), Ok(Head::Complete { body: Body::Length(3), .. })));
        assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(Malformed::TransferEncoding));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(Malformed::Host));
        assert_eq!(read(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(Malformed::Head));
        assert_eq!(read(b"GET /\r\n\r\n"), Err(Malformed::Head));
        assert_eq!(read(b"GET / HTTP/1.1\nHost: a\n\n"), Err(Malformed::BareLf));
    }

    #[test]
    fn a_head_that_trickles_is_read_like_a_whole_one() {
        let whole = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        let mut seen = 0;
        for end in 1..whole.len() - 5 {
            assert_eq!(head(&whole[..end], &mut seen, 4096, 32), Ok(Head::Partial), "{end}");
        }
        assert_eq!(
            head(whole, &mut seen, 4096, 32),
            Ok(Head::Complete { len: whole.len() - 5, body: Body::Length(5) })
        );
    }

    #[test]
    fn large_heads_are_refused_complete_or_not() {
        let long = [b"GET /".as_slice(), &[b'a'; 5000]].concat();
        assert_eq!(read(&long), Err(Malformed::HeadTooLarge));
        let complete = [&long, b" HTTP/1.1\r\nHost: a\r\n\r\n".as_slice()].concat();
        assert_eq!(read(&complete), Err(Malformed::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(40));
        assert_eq!(read(many.as_bytes()), Err(Malformed::HeadTooLarge));
    }

    /// Feeds the pieces; how many bytes were taken when the body ended.
    fn chunked(bytes: &[u8], piece: usize) -> Result<Option<usize>, Malformed> {
        let mut body = Body::Chunked(Chunks::default());
        let mut before = 0;
        for part in bytes.chunks(piece) {
            match body.take(part)? {
                Taken::All => before += part.len(),
                Taken::Ended(len) => return Ok(Some(before + len)),
            }
        }
        Ok(None)
    }

    #[test]
    fn a_chunked_body_ends_where_it_says_however_it_is_cut() {
        let body = b"5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX-Trailer: z\r\n\r\n";
        let next = b"GET / HTTP/1.1\r\n";
        let both = [body.as_slice(), next].concat();
        for piece in 1..=both.len() {
            assert_eq!(chunked(&both, piece), Ok(Some(body.len())), "pieces of {piece}");
            assert_eq!(chunked(&body[..body.len() - 1], piece), Ok(None));
        }
    }

    #[test]
    fn malformed_chunks_are_refused_however_they_are_cut() {
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\n",
            "1 \r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r0",
            "1;\nx\r\n",
            "1;a\x0bb\r\n",
            "0\r\nX\n\r\n",
            "0\r\n\n",
            "0\r\n\rX",
            "0\n\r\n",
            "1111111111111111\r\n",
            ";x\r\n",
        ] {
            for piece in 1..=bad.len() {
                assert_eq!(chunked(bad.as_bytes(), piece), Err(Malformed::Chunk), "{bad:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(EXTRAS + 1));
        assert_eq!(chunked(extension.as_bytes(), 100), Err(Malformed::Chunk));
        let many = "1;xxxx\r\na\r\n".repeat(EXTRAS / 4 + 1);
        assert_eq!(chunked(many.as_bytes(), 100), Err(Malformed::Chunk));
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(EXTRAS));
        assert_eq!(chunked(trailers.as_bytes(), 100), Err(Malformed::Chunk));
    }

    #[test]
    fn a_length_ends_at_its_last_byte() {
        let mut body = Body::Length(5);
        assert_eq!(body.take(b"hel"), Ok(Taken::All));
        assert_eq!(body.take(b"loGET"), Ok(Taken::Ended(2)));
        assert_eq!(Body::Length(0).take(b"GET"), Ok(Taken::Ended(0)));
    }
}
