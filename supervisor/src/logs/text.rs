//! From the bytes of a line to text that can be shown anywhere.

use super::split::Line;

/// The longest text, in bytes.
pub(super) const TEXT_BYTES: usize = 8192;

/// Room for what says how much was left out.
const NOTE_BYTES: usize = 48;

/// The line as text of at most [`TEXT_BYTES`]: control characters, those that turn the direction of writing and bytes that are not
/// UTF-8 are escaped the way Rust writes them, and what is left out at the end is counted.
pub(super) fn readable(line: Line<'_>) -> String {
    shorten(line, TEXT_BYTES)
}

/// The same with at most `most` bytes (at least 64).
pub(super) fn shorten(line: Line<'_>, most: usize) -> String {
    let mut bytes = line.bytes;
    let mut cut = line.cut;
    if cut > 0 {
        // A character that the cut went through would be shown as bytes that nobody wrote.
        let whole = bytes.len() - unfinished(bytes);
        cut += (bytes.len() - whole) as u64;
        bytes = &bytes[..whole];
    } else {
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    }
    let mut text = String::with_capacity(bytes.len().min(most));
    let mut taken = 0;
    // Where the text must end if it turns out to be too long.
    let mut fits = (0, 0);
    'all: for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                text.push(c)
            } else {
                text.extend(c.escape_default())
            }
            taken += c.len_utf8();
            if text.len() <= most - NOTE_BYTES {
                fits = (text.len(), taken);
            } else if text.len() > most {
                break 'all;
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
            taken += 1;
            if text.len() <= most - NOTE_BYTES {
                fits = (text.len(), taken);
            } else if text.len() > most {
                break 'all;
            }
        }
    }
    if cut > 0 || text.len() > most {
        if text.len() > most - NOTE_BYTES {
            text.truncate(fits.0);
            cut += (bytes.len() - fits.1) as u64;
        }
        text.push_str(&format!("… ({cut} bytes more)"));
    }
    text
}

/// Bytes at the end that begin a character and do not finish it.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    tail.iter().rev().position(|it| it & 0xc0 == 0xc0).map_or(0, |back| {
        let length = back + 1;
        let needed = tail[tail.len() - length].leading_ones() as usize;
        if (2..=4).contains(&needed) && needed > length { length } else { 0 }
    })
}

fn is_plain(c: char) -> bool {
    match c {
        '\t' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' => false,
        c => !c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        readable(Line { bytes, cut: 0 })
    }

    #[test]
    fn what_drives_a_terminal_is_shown_and_not_sent() {
        for (bytes, expected) in [
            (&b"plain \xc3\xa4\tb"[..], "plain ä\tb"),
            (b"dos\r", "dos"),
            (b"over\rwritten", "over\\rwritten"),
            (b"\x1b[2J\x1b]0;title\x07", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            (b"nul \0", "nul \\u{0}"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}".as_bytes(), "a\\u{202e}b\\u{2066}"),
            (b"\xff\xfe half \xe2\x82", "\\xff\\xfe half \\xe2\\x82"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let long = [b'x'; LINE];
        assert_eq!(text(&long), "x".repeat(LINE), "a full line is whole");
        let cut = readable(Line { bytes: &long, cut: 100 });
        assert!(cut.len() <= TEXT_BYTES && cut.ends_with("x… (148 bytes more)"), "{}", &cut[8100..]);
        // Escaping makes it longer than it was.
        let wild = text(&[0x1b; LINE]);
        let shown = wild.matches("\\u{1b}").count();
        assert!(wild.len() <= TEXT_BYTES && wild.ends_with(&format!("… ({} bytes more)", LINE - shown)), "{wild}");
        // A character that the cut went through.
        let mut half = vec![b'x'; 100];
        half.extend(b"\xe2\x82");
        assert_eq!(readable(Line { bytes: &half, cut: 1 }), format!("{}… (3 bytes more)", "x".repeat(100)));
    }

    const LINE: usize = super::super::split::LINE_BYTES;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_line_is_short_and_tame(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..LINE),
                "\\PC{0,2000}".prop_map(|it| it.into_bytes().into_iter().take(LINE).collect()),
                prop::collection::vec(prop_oneof![Just(0xe2u8), Just(0x80), Just(0xae), Just(0x1b)], 0..LINE),
            ],
            cut in prop_oneof![Just(0), 1..u64::MAX / 2],
            most in 64..TEXT_BYTES,
        ) {
            let text = shorten(Line { bytes: &bytes, cut }, most);
            prop_assert!(text.len() <= most, "{} bytes of {most}", text.len());
            let wild = text.chars().find(|c| *c != '\t' && (c.is_control() || *c == '\u{202e}'));
            prop_assert_eq!(wild, None);
            prop_assert!(cut == 0 || text.ends_with(" bytes more)"));
        }

        #[test]
        fn plain_text_is_as_it_was(line in "[ -~äöü€🦀\t]{0,500}") {
            prop_assert_eq!(text(line.as_bytes()), line);
        }
    }
}
