//! When `step` wants to be reminded of what.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use crate::lifecycle::{Mono, Timer};

/// Nobody has looked at a timer that is found so late: this process was stopped, or had no processor.
const UNSEEN: Duration = Duration::from_secs(1);

/// Then what came in meanwhile is heard first: for so long.
const HEARING: Duration = Duration::from_secs(1);

/// All timers that are set, by time and by name.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Mono, Timer)>,
    by_name: HashMap<Timer, Mono>,
    /// Those that were put off already.
    put_off: HashSet<Timer>,
}

impl Timers {
    /// Sets a timer; one of the same name is moved.
    pub fn set(&mut self, timer: Timer, at: Mono) {
        self.put_off.remove(&timer);
        self.put(timer, at);
    }

    fn put(&mut self, timer: Timer, at: Mono) {
        if let Some(before) = self.by_name.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest that is due. If it comes too late, because this process did not run, it and all that are due with it are
    /// put off once: nobody is to be blamed for an answer that lies unread.
    pub fn due(&mut self, now: Mono) -> Option<Timer> {
        let (at, timer) = self.by_time.first()?;
        if now.since(*at) > UNSEEN && !self.put_off.contains(timer) {
            self.put_off_due(now);
        }
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_name.remove(&timer);
        self.put_off.remove(&timer);
        Some(timer)
    }

    fn put_off_due(&mut self, now: Mono) {
        let due: Vec<Timer> = self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, it)| it.clone()).collect();
        for timer in due {
            if self.put_off.insert(timer.clone()) {
                self.put(timer, now + HEARING);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mortise_control::WorkerId;

    use super::*;

    fn ready(slot: u32) -> Timer {
        Timer::Ready(WorkerId { slot, generation: 1 })
    }

    #[test]
    fn they_come_in_the_order_of_their_times_and_each_once() {
        let mut timers = Timers::default();
        timers.set(ready(2), Mono(20));
        timers.set(ready(1), Mono(10));
        assert_eq!(timers.next(), Some(Mono(10)));
        assert_eq!(timers.due(Mono(9)), None);
        assert_eq!(timers.due(Mono(30)), Some(ready(1)));
        assert_eq!(timers.due(Mono(30)), Some(ready(2)));
        assert_eq!((timers.due(Mono(30)), timers.next()), (None, None));
    }

    #[test]
    fn setting_one_again_moves_it() {
        let mut timers = Timers::default();
        timers.set(ready(1), Mono(10));
        timers.set(ready(1), Mono(50));
        assert_eq!(timers.due(Mono(49)), None);
        assert_eq!(timers.due(Mono(50)), Some(ready(1)));
        timers.set(ready(1), Mono(60));
        timers.set(ready(1), Mono(5));
        assert_eq!(timers.due(Mono(5)), Some(ready(1)));
        assert_eq!(timers.due(Mono(100)), None, "the later one is gone");
    }
    #[test]
    fn what_was_not_looked_at_in_time_is_put_off_once() {
        let second = |it: u64| Mono(it * 1_000_000_000);
        let mut timers = Timers::default();
        timers.set(ready(1), second(10));
        timers.set(ready(2), second(15));
        timers.set(ready(3), second(30));
        // Stopped from before 10 s to 20 s.
        assert_eq!((timers.due(second(20)), timers.next()), (None, Some(second(21))));
        // And again: they have waited.
        assert_eq!(timers.due(second(40)), Some(ready(1)));
        assert_eq!(timers.due(second(40)), Some(ready(2)));
        assert_eq!((timers.due(second(40)), timers.next()), (None, Some(second(41))));
        assert_eq!(timers.due(second(41)), Some(ready(3)));
        // Set again, it is new.
        timers.set(ready(1), second(50));
        assert_eq!(timers.due(second(60)), None);
        timers.set(ready(1), second(70));
        assert_eq!(timers.due(second(80)), None);
    }
}
