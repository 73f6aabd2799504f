//! The figures page: what a worker counts about itself, in a memfd that the supervisor reads and never maps.
//!
//! ```text
//!   word 0        1            2       3          8                56
//!   ┌────────┬──────────┬────────┬─────────┬───┬───────────────┬───────────────┬── …
//!   │ magic  │ version  │ used   │ refused │ … │ entry 0       │ entry 1       │
//!   └────────┴──────────┴────────┴─────────┴───┴───────────────┴───────────────┴── …
//!   entry:  0..8 name (UTF-8, NUL padded) · 8 side · 9 calls · 10 errors · 11 in flight · 12 latency sum · 13..45 buckets
//! ```
//!
//! All words are native-endian `u64`. The worker writes them with relaxed atomics ([`Page`]); the supervisor reads the file
//! by `pread` and takes it as an allegation ([`decode`]): figures of one entry may be of slightly different moments.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

use crate::ServiceName;

/// The size of a figures page in bytes. An untouched part of it costs no memory.
pub const PAGE_BYTES: usize = 16 * 1024;

/// The same in words.
pub const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// Latency buckets per entry: bucket i counts calls under 2^(i+10) ns and at least half of it.
pub const BUCKETS: usize = 32;

/// The most entries that a page holds; services beyond it are counted in `refused` only.
pub const CAPACITY: usize = (PAGE_WORDS - HEADER_WORDS) / ENTRY_WORDS;

const MAGIC: u64 = u64::from_ne_bytes(*b"MORTFIGS");
const VERSION: u64 = 1;
const HEADER_WORDS: usize = 8;
const USED: usize = 2;
const REFUSED: usize = 3;

const ENTRY_WORDS: usize = 48;
const NAME_WORDS: usize = 8;
const SIDE: usize = 8;
const CALLS: usize = 9;
const ERRORS: usize = 10;
const IN_FLIGHT: usize = 11;
const LATENCY_SUM: usize = 12;
const LATENCY: usize = 13;

const _: () = assert!(LATENCY + BUCKETS <= ENTRY_WORDS);
const _: () = assert!(CAPACITY >= 40);

/// From which side a worker counts the calls of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// It answers them.
    Provided,
    /// It makes them.
    Required,
    /// It answers HTTP requests; the entry's name is `http`.
    Http,
}

impl Side {
    const fn word(self) -> u64 {
        match self {
            Self::Provided => 1,
            Self::Required => 2,
            Self::Http => 3,
        }
    }

    const fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Provided),
            2 => Some(Self::Required),
            3 => Some(Self::Http),
            _ => None,
        }
    }
}

/// The figures of one service, seen from one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The service.
    pub service: ServiceName,
    /// Who counts.
    pub side: Side,
    /// Calls that ended, errors included.
    pub calls: u64,
    /// Calls that ended in an error.
    pub errors: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Sum of latencies in nanoseconds.
    pub latency_sum_ns: u64,
    /// How many calls took less than 2^(i+10) ns and at least half of it (bucket 0: less than 1.024 µs; the last: all above).
    pub latency_log2: [u64; BUCKETS],
}

/// Why a page was not understood. The worker is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// Not [`PAGE_BYTES`] long.
    #[error("a figures page of {found} bytes, where {PAGE_BYTES} are expected")]
    Length {
        /// The length that was read.
        found: usize,
    },
    /// Neither empty nor a figures page of this version.
    #[error("a figures page that starts with {magic:#018x}, version {version}")]
    Header {
        /// The first word.
        magic: u64,
        /// The second word.
        version: u64,
    },
    /// More entries than fit.
    #[error("a figures page that claims {found} entries, where {CAPACITY} fit")]
    Entries {
        /// The claim.
        found: u64,
    },
    /// An entry with a name that is none, a side that is none, or a name that another entry has.
    #[error("entry {index} of a figures page has no valid {what}")]
    Entry {
        /// Which entry.
        index: usize,
        /// Which part of it.
        what: &'static str,
    },
}

/// Reads a page as its worker alleges it. Looks at [`PAGE_BYTES`] bytes at most and allocates [`CAPACITY`] entries at most.
/// A page that was never written (all zero) has no entries.
///
/// # Errors
/// [`StatsError`] for whatever a worker that uses [`Page`] cannot have written.
pub fn decode(bytes: &[u8]) -> Result<Vec<Figures>, StatsError> {
    let page: &[u8; PAGE_BYTES] = bytes.try_into().map_err(|_| StatsError::Length { found: bytes.len() })?;
    let (words, _) = page.as_chunks::<8>();
    let word = |at: usize| u64::from_ne_bytes(words[at]);
    let (magic, version) = (word(0), word(1));
    if (magic, version) == (0, 0) {
        return Ok(Vec::new());
    }
    if (magic, version) != (MAGIC, VERSION) {
        return Err(StatsError::Header { magic, version });
    }
    let used = match usize::try_from(word(USED)) {
        Ok(used) if used <= CAPACITY => used,
        _ => return Err(StatsError::Entries { found: word(USED) }),
    };
    let mut entries: Vec<Figures> = Vec::with_capacity(used);
    for index in 0..used {
        let base = HEADER_WORDS + index * ENTRY_WORDS;
        let service = decode_name(&words[base..base + NAME_WORDS]).ok_or(StatsError::Entry { index, what: "name" })?;
        let side = Side::from_word(word(base + SIDE)).ok_or(StatsError::Entry { index, what: "side" })?;
        if entries.iter().any(|it| it.service == service && it.side == side) {
            return Err(StatsError::Entry { index, what: "name of its own" });
        }
        entries.push(Figures {
            service,
            side,
            calls: word(base + CALLS),
            errors: word(base + ERRORS),
            in_flight: word(base + IN_FLIGHT),
            latency_sum_ns: word(base + LATENCY_SUM),
            latency_log2: std::array::from_fn(|i| word(base + LATENCY + i)),
        });
    }
    Ok(entries)
}

fn decode_name(words: &[[u8; 8]]) -> Option<ServiceName> {
    let bytes = words.as_flattened();
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    if bytes[len..].iter().any(|b| *b != 0) {
        return None;
    }
    ServiceName::new(std::str::from_utf8(&bytes[..len]).ok()?).ok()
}

/// The bucket that a latency belongs to.
#[must_use]
pub const fn bucket(latency_ns: u64) -> usize {
    let bits = (u64::BITS - latency_ns.leading_zeros()) as usize;
    let index = bits.saturating_sub(10);
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The writer's view: the words of a mapped page, which this process alone writes.
#[derive(Clone, Copy)]
pub struct Page<'a>(&'a [AtomicU64; PAGE_WORDS]);

impl std::fmt::Debug for Page<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} entries)", self.used())
    }
}

/// An entry of a [`Page`], to count with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryIndex(u16);

impl<'a> Page<'a> {
    /// Takes the words and writes the header if there is none yet.
    #[must_use]
    pub fn new(words: &'a [AtomicU64; PAGE_WORDS]) -> Self {
        if words[0].load(Relaxed) != MAGIC {
            words[1].store(VERSION, Relaxed);
            words[0].store(MAGIC, Release);
        }
        Self(words)
    }

    fn used(&self) -> usize {
        usize::try_from(self.0[USED].load(Relaxed)).map_or(0, |used| used.min(CAPACITY))
    }

    /// The entry of a service, made if there is none; none if the page is full. Two threads must not do this at once.
    #[must_use]
    pub fn entry(&self, side: Side, service: &ServiceName) -> Option<EntryIndex> {
        let mut name = [[0; 8]; NAME_WORDS];
        name.as_flattened_mut()[..service.as_str().len()].copy_from_slice(service.as_str().as_bytes());
        let used = self.used();
        let has = |index: &usize| {
            let at = HEADER_WORDS + index * ENTRY_WORDS;
            let same = |(i, chunk): (usize, &[u8; 8])| self.0[at + i].load(Relaxed) == u64::from_ne_bytes(*chunk);
            self.0[at + SIDE].load(Relaxed) == side.word() && name.iter().enumerate().all(same)
        };
        if let Some(index) = (0..used).find(has) {
            return Some(EntryIndex(index as u16));
        }
        if used == CAPACITY {
            self.0[REFUSED].fetch_add(1, Relaxed);
            return None;
        }
        let at = HEADER_WORDS + used * ENTRY_WORDS;
        for (i, chunk) in name.iter().enumerate() {
            self.0[at + i].store(u64::from_ne_bytes(*chunk), Relaxed);
        }
        self.0[at + SIDE].store(side.word(), Relaxed);
        self.0[USED].store(used as u64 + 1, Release);
        Some(EntryIndex(used as u16))
    }

    fn word(&self, entry: EntryIndex, word: usize) -> &'a AtomicU64 {
        &self.0[HEADER_WORDS + usize::from(entry.0) * ENTRY_WORDS + word]
    }

    /// A call begins.
    pub fn begin(&self, entry: EntryIndex) {
        self.word(entry, IN_FLIGHT).fetch_add(1, Relaxed);
    }

    /// A call that began has ended well.
    pub fn answered(&self, entry: EntryIndex, latency_ns: u64) {
        self.word(entry, IN_FLIGHT).fetch_sub(1, Relaxed);
        self.word(entry, CALLS).fetch_add(1, Relaxed);
        self.word(entry, LATENCY_SUM).fetch_add(latency_ns, Relaxed);
        self.word(entry, LATENCY + bucket(latency_ns)).fetch_add(1, Relaxed);
    }

    /// A call that began has ended in an error.
    pub fn failed(&self, entry: EntryIndex, latency_ns: u64) {
        self.word(entry, ERRORS).fetch_add(1, Relaxed);
        self.answered(entry, latency_ns);
    }

    /// Adds what `old` has gained since `seen` was taken of it (all zero at first), and brings `seen` up to date. Entries keep
    /// their index, so this page must have no entries that `old` has not.
    pub fn carry_over(&self, old: Page<'_>, seen: &mut [u64; PAGE_WORDS]) {
        let entries = old.used() * ENTRY_WORDS;
        for ((from, to), seen) in old.0.iter().zip(self.0).zip(seen).skip(HEADER_WORDS).take(entries) {
            let now = from.load(Relaxed);
            to.fetch_add(now.wrapping_sub(*seen), Relaxed);
            *seen = now;
        }
        self.0[REFUSED].store(old.0[REFUSED].load(Relaxed), Relaxed);
        self.0[USED].store(old.used() as u64, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Box<[AtomicU64; PAGE_WORDS]> {
        let words: Vec<AtomicU64> = std::iter::repeat_with(|| AtomicU64::new(0)).take(PAGE_WORDS).collect();
        words.into_boxed_slice().try_into().unwrap()
    }

    fn bytes(words: &[AtomicU64; PAGE_WORDS]) -> Vec<u8> {
        words.iter().flat_map(|it| it.load(Relaxed).to_ne_bytes()).collect()
    }

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    #[test]
    fn what_is_counted_is_read() {
        let words = words();
        let page = Page::new(&words);
        let spell = page.entry(Side::Provided, &name("spell")).unwrap();
        let other = page.entry(Side::Required, &name("spell")).unwrap();
        assert_ne!(spell, other);
        assert_eq!(page.entry(Side::Provided, &name("spell")), Some(spell));
        for _ in 0..3 {
            page.begin(spell);
        }
        page.answered(spell, 1_000);
        page.failed(spell, 1_024);
        let read = decode(&bytes(&words)).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].calls, read[0].errors, read[0].in_flight, read[0].latency_sum_ns), (2, 1, 1, 2_024));
        assert_eq!(read[0].latency_log2[..3], [1, 1, 0]);
        assert_eq!((read[1].side, read[1].calls), (Side::Required, 0));
    }

    #[test]
    fn buckets_are_powers_of_two_of_a_microsecond() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1_023), 0);
        for i in 1..BUCKETS - 1 {
            assert_eq!(bucket(1 << (i + 9)), i);
            assert_eq!(bucket((1 << (i + 10)) - 1), i);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_untouched_page_is_empty_and_a_full_one_refuses() {
        let words = words();
        assert_eq!(decode(&bytes(&words)), Ok(vec![]));
        let page = Page::new(&words);
        for i in 0..CAPACITY {
            assert!(page.entry(Side::Provided, &name(&format!("s{i}"))).is_some());
        }
        assert_eq!(page.entry(Side::Provided, &name("one-more")), None);
        assert_eq!(decode(&bytes(&words)).unwrap().len(), CAPACITY);
    }

    #[test]
    fn a_new_page_takes_over_and_loses_nothing() {
        let (old, new) = (words(), words());
        let (from, to) = (Page::new(&old), Page::new(&new));
        let entry = from.entry(Side::Http, &name("http")).unwrap();
        from.begin(entry);
        let mut seen = [0; PAGE_WORDS];
        to.carry_over(from, &mut seen);
        from.answered(entry, 5_000);
        to.begin(entry);
        to.answered(entry, 5_000);
        to.carry_over(from, &mut seen);
        let read = decode(&bytes(&new)).unwrap();
        assert_eq!((read[0].calls, read[0].in_flight, read[0].latency_sum_ns), (2, 0, 10_000));
    }

    #[test]
    fn garbage_is_refused_by_its_part() {
        let good = {
            let words = words();
            let _ = Page::new(&words).entry(Side::Provided, &name("spell"));
            bytes(&words)
        };
        let with = |word: usize, value: u64| {
            let mut bytes = good.clone();
            bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
            decode(&bytes)
        };
        assert!(decode(&good).is_ok());
        assert_eq!(decode(&good[1..]), Err(StatsError::Length { found: PAGE_BYTES - 1 }));
        assert_eq!(decode(&[]), Err(StatsError::Length { found: 0 }));
        assert!(matches!(with(0, 1), Err(StatsError::Header { .. })));
        assert!(matches!(with(1, 2), Err(StatsError::Header { .. })));
        assert_eq!(with(USED, u64::MAX), Err(StatsError::Entries { found: u64::MAX }));
        assert_eq!(with(USED, 2), Err(StatsError::Entry { index: 1, what: "name" }));
        assert_eq!(with(HEADER_WORDS, u64::MAX), Err(StatsError::Entry { index: 0, what: "name" }));
        assert_eq!(with(HEADER_WORDS + 3, 1), Err(StatsError::Entry { index: 0, what: "name" }));
        assert_eq!(with(HEADER_WORDS + SIDE, 0), Err(StatsError::Entry { index: 0, what: "side" }));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let words = words();
        let page = Page::new(&words);
        for i in 0..CAPACITY {
            let _ = page.entry(Side::Provided, &name(&format!("s{i}")));
        }
        let good = bytes(&words);
        for round in 0..2_000 {
            let mut page = good.clone();
            for _ in 0..=round % 16 {
                let at = (random() as usize) % if round % 2 == 0 { 512 } else { PAGE_BYTES };
                page[at] = random() as u8;
            }
            if let Ok(entries) = decode(&page) {
                assert!(entries.len() <= CAPACITY);
            }
        }
    }
}
