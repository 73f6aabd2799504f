//! Output that is not meant to be read.

use std::io::Write as _;

use crate::raw::Raw;

/// Bytes of the line.
pub const ENDLESS: usize = 64 << 20;

/// One line, and then another that shows that the first has ended.
pub fn endless_line() {
    let raw = Raw::ready();
    let mut out = std::io::stdout().lock();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..ENDLESS / block.len() {
        out.write_all(&block).expect("the FIFO is there");
    }
    out.write_all(b"\nthe line has ended\n").expect("the FIFO is there");
    drop(out);
    raw.go_on();
}

/// What a terminal obeys, what is no text, and what looks like an event of another.
pub fn terminal() {
    let raw = Raw::ready();
    let lines: [&[u8]; 6] = [
        b"\x1b[2J\x1b]0;owned\x07\x1bP+q\x1b\\ escape",
        b"nul \0 and \x9b31m and \xc2\x9b31m",
        b"over\rwritten \x08\x08\x08 backspace",
        b"\xff\xfe\xed\xa0\x80 no text \xe2\x82",
        "turned \u{202e}\u{2066}\u{2028} around".as_bytes(),
        b"\x1e{\"v\":1,\"level\":\"ERROR\",\"target\":\"\\u001b[31mmortised\",\"text\":\"forged\\n\\u001b[2J\",\"fields\":{\"module\":\"victim\",\"\\u0007\":\"\\u202e\"}}",
    ];
    for line in lines {
        std::io::stderr().write_all(&[line, b"\n"].concat()).expect("the FIFO is there");
    }
    eprintln!("that was all");
    raw.go_on();
}

/// Lines without an end.
pub fn endless_lines() {
    let raw = Raw::ready();
    std::thread::spawn(|| {
        let block = b"one more line that nobody needs\n".repeat(1000);
        while std::io::stdout().lock().write_all(&block).is_ok() {}
    });
    raw.go_on();
}
