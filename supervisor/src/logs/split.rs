//! From a stream of hostile bytes to lines of bounded length.

/// The most bytes of a line that are kept.
pub(super) const LINE_BYTES: usize = 8192;

/// A line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// At most [`LINE_BYTES`].
    pub bytes: &'a [u8],
    /// Bytes of the line that were left out behind these.
    pub cut: u64,
}

/// Finds the lines of one stream, however its bytes are divided over reads. Keeps at most [`LINE_BYTES`].
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    begun: Vec<u8>,
    cut: u64,
}

impl LineSplitter {
    /// Gives the lines that end in `bytes` to `each`.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr(bytes) {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if self.begun.is_empty() && self.cut == 0 {
                each(kept(line, 0));
            } else {
                self.go_on(line);
                each(kept(&self.begun, self.cut));
                self.begun.clear();
                self.cut = 0;
            }
        }
        self.go_on(bytes);
    }

    /// The stream has ended: what was begun is a line too.
    pub fn end(&mut self, each: impl FnOnce(Line<'_>)) {
        if !self.begun.is_empty() {
            each(kept(&self.begun, self.cut));
        }
        *self = Self::default();
    }

    fn go_on(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES - self.begun.len();
        let (keep, cut) = bytes.split_at(room.min(bytes.len()));
        self.begun.extend_from_slice(keep);
        self.cut = self.cut.saturating_add(cut.len() as u64);
    }
}

fn kept(line: &[u8], cut: u64) -> Line<'_> {
    let keep = line.len().min(LINE_BYTES);
    Line { bytes: &line[..keep], cut: cut.saturating_add((line.len() - keep) as u64) }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    // A chunk at a time: the compiler makes vector code of the inner search, and a flood is mostly searched and thrown away.
    let mut at = 0;
    for chunk in bytes.chunks(64) {
        if chunk.contains(&b'\n') {
            return chunk.iter().position(|it| *it == b'\n').map(|it| at + it);
        }
        at += chunk.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(splitter: &mut LineSplitter, chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push((line.bytes.to_vec(), line.cut)));
        }
        splitter.end(|line| lines.push((line.bytes.to_vec(), line.cut)));
        lines
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_one_line() {
        let mut splitter = LineSplitter::default();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..1024 {
            splitter.feed(&chunk, |_| panic!("it has no end"));
            assert!(splitter.begun.capacity() <= 2 * LINE_BYTES);
        }
        let found = lines(&mut splitter, &[b"\nnext\n"]);
        assert_eq!(found[0], (vec![b'x'; LINE_BYTES], (1 << 30) - LINE_BYTES as u64));
        assert_eq!(found[1], (b"next".to_vec(), 0));
    }

    proptest! {
        /// Wherever the reads divide the stream, the lines are those of the whole.
        #[test]
        fn borders_of_reads_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![3 => Just(b'\n'), 20 => any::<u8>()], 0..400),
            stretch in 0..20_000usize,
            borders in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut bytes = bytes;
            let middle = bytes.len() / 2;
            bytes.splice(middle..middle, std::iter::repeat_n(b'y', stretch));
            let mut borders: Vec<usize> = borders.iter().map(|it| it.index(bytes.len() + 1)).collect();
            borders.extend([0, bytes.len()]);
            borders.sort_unstable();
            let chunks: Vec<&[u8]> = borders.windows(2).map(|it| &bytes[it[0]..it[1]]).collect();

            let mut expected: Vec<(Vec<u8>, u64)> = bytes
                .split(|it| *it == b'\n')
                .map(|line| (line[..line.len().min(LINE_BYTES)].to_vec(), line.len().saturating_sub(LINE_BYTES) as u64))
                .collect();
            // Behind the last line end there is a line only if there is something.
            if expected.last().is_some_and(|(line, _)| line.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(lines(&mut LineSplitter::default(), &chunks), expected);
        }
    }
}
