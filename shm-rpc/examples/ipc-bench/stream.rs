//! `stream-64`: messages of 64 bytes, one way, each read by the receiver. Its limit is a ring of bare lines and two counters.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use shm_rpc::{Call, CallOptions, Client};

use crate::How;
use crate::measure::{CHUNK, LIMIT_CHUNK, Row, Tally, chunk};
use crate::other::{Bench, LIMITS};
use crate::page::Page;

/// Methods from here on, behind [`LIMITS`], are this row's.
pub const METHODS: u32 = 100;
const MESSAGES: u32 = LIMITS + METHODS;
const BARE: u32 = MESSAGES + 1;

/// Messages timed together, the last of them taken.
const ROUND: u64 = 8192;
/// The limit's ring, in lines, and how many are published and given back at once: the fastest of what was tried.
const LINES: u64 = 512;
const BATCH: u64 = 32;

/// Measures the row.
pub fn run(name: &'static str, seconds: f64) {
    let bench = Bench::start(How::Spin);
    let row = Row { name, at_most: 1.5, core_below: 0.0, near_below: 25.0 };
    let mut work = || chunk(&mut |rounds| send(&bench.client, rounds), ROUND, CHUNK);
    let mut limit = || {
        for line in 0..2 {
            bench.pages.both.word(line, 0).store(0, SeqCst);
        }
        bench.client.call(BARE, &CallOptions::NONE, ()).unwrap();
        let mut next = 0;
        let measured = chunk(&mut |rounds| send_bare(&bench.pages.both, &mut next, rounds * ROUND), ROUND, LIMIT_CHUNK);
        bench.pages.both.word(0, 0).store(u64::MAX, Release);
        measured.p50
    };
    let mut tally = Tally::new(row);
    tally.measure(seconds, &mut work, &mut limit, None);
    tally.print();
}

fn send(client: &Client, rounds: u64) {
    for _ in 0..rounds {
        let mut stream = client.stream::<[u64; 8]>(MESSAGES, &CallOptions::NONE);
        let mut number = 0;
        while number < ROUND {
            let room = stream.room().unwrap();
            let count = room.len().min((ROUND - number) as usize);
            for place in &mut room[..count] {
                *place = [number; 8];
                number += 1;
            }
            stream.add(count).unwrap();
        }
        assert_eq!(stream.finish(), Ok(ROUND));
    }
}

fn send_bare(page: &Page, next: &mut u64, count: u64) {
    let (published, taken) = (page.word(0, 0), page.word(1, 0));
    let mut free = *next + LINES - (*next - taken.load(Acquire));
    let end = *next + count;
    while *next < end {
        while *next + BATCH > free {
            spin_loop();
            free = taken.load(Acquire) + LINES;
        }
        for number in *next..*next + BATCH {
            page.write_line((number % LINES) as usize, [number; 8]);
        }
        *next += BATCH;
        published.store(*next, Release);
    }
    while taken.load(Acquire) != end {
        spin_loop();
    }
}

/// Answers a call of this row.
pub fn answer(call: Call<'_>, page: &Page) {
    if call.method() == MESSAGES {
        let mut sum = 0_u64;
        let read = call.each(|message: [u64; 8]| sum = message.iter().fold(sum, |sum, it| sum.wrapping_add(*it)));
        black_box(sum);
        return match read {
            Ok(_) => call.reply(()),
            Err(error) => call.fail(&error),
        };
    }
    call.reply(());
    let (published, taken) = (page.word(0, 0), page.word(1, 0));
    let mut next = 0;
    loop {
        let ready = published.load(Acquire);
        if ready == u64::MAX {
            return;
        }
        if ready == next {
            spin_loop();
            continue;
        }
        let mut sum = 0_u64;
        while next < ready {
            for number in next..next + BATCH {
                let line = page.read_line((number % LINES) as usize);
                sum = line.iter().fold(sum, |sum, it| sum.wrapping_add(*it));
            }
            next += BATCH;
            taken.store(next, Release);
        }
        black_box(sum);
    }
}
