//! What the worker counts about itself, in the page that the supervisor reads.
#![allow(unsafe_code, reason = "the mapped page is seen as an array of atomics here")]

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use memmap2::{MmapOptions, MmapRaw};
use mortise_control::ServiceName;
use mortise_control::stats::{EntryIndex, PAGE_BYTES, PAGE_WORDS, Page, Side};
use nix::sys::stat::fstat;

/// The counters of this worker. Before the first welcome, and in tests, the page is private memory.
#[derive(Debug)]
pub(crate) struct Figures {
    mapping: ArcSwap<Mapping>,
    /// Held by who makes an entry or changes the page.
    making: Mutex<()>,
}

#[derive(Debug)]
struct Mapping(MmapRaw);

impl Mapping {
    fn private() -> io::Result<Self> {
        Ok(Self(MmapRaw::from(MmapOptions::new().len(PAGE_BYTES).map_anon()?)))
    }

    fn of(fd: impl AsFd) -> io::Result<Self> {
        let size = fstat(fd.as_fd())?.st_size;
        if usize::try_from(size) != Ok(PAGE_BYTES) {
            return Err(io::Error::other(format!("a figures page of {size} bytes, where {PAGE_BYTES} are expected")));
        }
        let raw = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
        Ok(Self(MmapOptions::new().len(PAGE_BYTES).map_raw(raw)?))
    }

    fn page(&self) -> Page<'_> {
        // SAFETY: the mapping is PAGE_BYTES long, page-aligned, readable and writable for as long as `self` lives, and this
        // process accesses it only through these atomics; a page that the supervisor made (whose file it keeps at that size)
        // is read by it with `pread`, which is no access of this program.
        Page::new(unsafe { &*self.0.as_mut_ptr().cast::<[AtomicU64; PAGE_WORDS]>() })
    }
}

impl Figures {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { mapping: ArcSwap::from_pointee(Mapping::private()?), making: Mutex::default() }))
    }

    /// Counts into the page behind `fd` from now on and carries over what was counted before.
    pub(crate) fn move_to(&self, fd: impl AsFd) -> io::Result<()> {
        let new = Arc::new(Mapping::of(fd)?);
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Box::new([0; PAGE_WORDS]);
        new.page().carry_over(self.mapping.load().page(), &mut seen);
        let old = self.mapping.swap(Arc::clone(&new));
        // Whoever had loaded the old page before the swap holds a count of it now, and lets go after a few instructions.
        while Arc::strong_count(&old) > 1 {
            std::thread::yield_now();
        }
        new.page().carry_over(old.page(), &mut seen);
        Ok(())
    }

    /// What `service` is counted with, seen from `side`.
    pub(crate) fn counter(self: &Arc<Self>, side: Side, service: &ServiceName) -> Counter {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        Counter { figures: Arc::clone(self), entry: self.mapping.load().page().entry(side, service) }
    }
}

/// Counts the calls of one service.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    figures: Arc<Figures>,
    /// None: the page is full.
    entry: Option<EntryIndex>,
}

impl Counter {
    /// A call begins.
    pub(crate) fn begin(&self) -> Running<'_> {
        self.begin_apart();
        Running { counter: self, begun: Instant::now() }
    }

    /// The same for who calls [`Self::end`] by himself.
    pub(crate) fn begin_apart(&self) {
        if let Some(entry) = self.entry {
            self.figures.mapping.load().page().begin(entry);
        }
    }

    pub(crate) fn end(&self, begun: Instant, outcome: Outcome) {
        let Some(entry) = self.entry else { return };
        let latency = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mapping = self.figures.mapping.load();
        match outcome {
            Outcome::Answered => mapping.page().answered(entry, latency),
            Outcome::Failed => mapping.page().failed(entry, latency),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Failed,
}

/// A call under way. Dropped without an end, it has failed.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    counter: &'a Counter,
    begun: Instant,
}

impl Running<'_> {
    pub(crate) fn end(self, outcome: Outcome) {
        self.counter.end(self.begun, outcome);
        std::mem::forget(self);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.counter.end(self.begun, Outcome::Failed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use mortise_control::stats::decode;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    fn file() -> std::fs::File {
        let file = std::fs::File::from(memfd_create(c"figures", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(PAGE_BYTES as u64).unwrap();
        file
    }

    fn read(file: &std::fs::File) -> Vec<mortise_control::stats::Figures> {
        let mut bytes = vec![0; PAGE_BYTES];
        file.read_exact_at(&mut bytes, 0).unwrap();
        decode(&bytes).unwrap()
    }

    #[test]
    fn what_was_counted_moves_with_the_page() {
        let figures = Figures::new().unwrap();
        let spell = figures.counter(Side::Provided, &ServiceName::new("spell").unwrap());
        spell.begin().end(Outcome::Answered);
        let running = spell.begin();
        let (first, second) = (file(), file());
        figures.move_to(&first).unwrap();
        drop(running);
        figures.move_to(&second).unwrap();
        spell.begin().end(Outcome::Answered);
        let found = &read(&second)[0];
        assert_eq!((found.calls, found.errors, found.in_flight), (3, 1, 0));
        assert_eq!(read(&first)[0].calls, 2);
    }

    #[test]
    fn nothing_is_lost_while_others_count() {
        let figures = Figures::new().unwrap();
        let spell = figures.counter(Side::Provided, &ServiceName::new("spell").unwrap());
        let moving = AtomicBool::new(true);
        let count = || {
            let mut counted = 0;
            while moving.load(Relaxed) {
                spell.begin().end(Outcome::Answered);
                counted += 1;
            }
            counted
        };
        let counted: u64 = std::thread::scope(|scope| {
            let threads = [scope.spawn(count), scope.spawn(count)];
            (0..2_000).for_each(|_| figures.move_to(file()).unwrap());
            moving.store(false, Relaxed);
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        let last = file();
        figures.move_to(&last).unwrap();
        assert_eq!((read(&last)[0].calls, read(&last)[0].in_flight), (counted, 0));
    }

    #[test]
    fn a_page_of_another_size_is_refused() {
        let file = file();
        file.set_len(1).unwrap();
        assert!(Figures::new().unwrap().move_to(&file).is_err());
    }
}
