//! What the measured calls carry, and what they do with it: the calling side and the handler of each case.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_rpc::{Call, CallOptions, Client, Deadline, Encoded, Encoding::Positional, Pod, Session};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::page::BULK;

/// Five fields, as a typical small request has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    id: u64,
    customer: String,
    quantity: u32,
    price: f64,
    urgent: bool,
}

impl Order {
    pub fn sample() -> Self {
        Self { id: 81_234_567_890, customer: "customer-17".into(), quantity: 12, price: 99.5, urgent: true }
    }
}

/// 32 bytes of plain old data.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Quad([u64; 4]);

/// A request that lies ready: what it costs to make one is not the channel's business.
fn quad() -> Quad {
    std::hint::black_box(Quad([7; 4]))
}

/// Encodes and decodes a request and an answer, without any buffer that would have to be allocated.
pub fn codec_alone(order: &Order) {
    for _ in 0..2 {
        let mut buffer = [0_u8; 64];
        let mut rest = &mut buffer[..];
        order.serialize(&mut rmp_serde::Serializer::new(&mut rest)).unwrap();
        let len = 64 - rest.len();
        let decoded: Order = rmp_serde::from_slice(std::hint::black_box(&buffer[..len])).unwrap();
        std::hint::black_box(&decoded);
    }
}

/// What one call of a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// 48 bytes each way, no deadline.
    Raw,
    /// A deadline and 32 bytes of plain old data each way.
    Pod,
    /// The same from a client that takes its end for each call anew, as one that shares it does.
    PodShared,
    /// A deadline and a serde struct of five fields each way.
    Serde,
    /// 1 MiB filled by the caller and summed in place by the callee.
    Bulk,
    /// 1 MiB handed over that nobody touches.
    BulkUntouched,
    /// [`Work::Pod`], 64 at a time.
    Pipelined,
}

impl Work {
    const ALL: [Self; 7] =
        [Self::Raw, Self::Pod, Self::Serde, Self::Bulk, Self::BulkUntouched, Self::Pipelined, Self::PodShared];

    pub fn method(self) -> u32 {
        Self::ALL.iter().position(|it| *it == self).unwrap() as u32
    }

    /// How many calls one round is.
    pub fn calls(self) -> u64 {
        if self == Self::Pipelined { 64 } else { 1 }
    }

    /// How many slots the channel has: as few as are of use.
    pub fn slots(self) -> u32 {
        if self == Self::Pipelined { 128 } else { 4 }
    }

    fn options() -> CallOptions {
        CallOptions::with_deadline(Deadline::after(Duration::from_secs(60)))
    }

    /// Hands `body` what makes so many rounds of calls in this thread.
    pub fn calling<T>(self, client: &Client, body: impl FnOnce(&mut dyn FnMut(u64)) -> T) -> T {
        let options = Self::options();
        if self == Self::PodShared {
            let quad = quad();
            return body(&mut |rounds| {
                for _ in 0..rounds {
                    assert_eq!(client.call(self.method(), &options, Pod(&quad)).unwrap().pod::<Quad>().unwrap(), quad);
                }
            });
        }
        let mut session = client.session();
        body(&mut |rounds| self.call(&mut session, &options, rounds))
    }

    fn call(self, session: &mut Session<'_>, options: &CallOptions, rounds: u64) {
        let method = self.method();
        match self {
            Self::Raw => {
                let words = std::hint::black_box([7; 6]);
                for _ in 0..rounds {
                    let answer = session.call(method, &CallOptions::NONE, Pod(&words)).unwrap().pod::<[u64; 6]>();
                    assert_eq!(answer.unwrap(), words);
                }
            }
            Self::Pod => {
                let quad = quad();
                for _ in 0..rounds {
                    assert_eq!(session.call(method, options, Pod(&quad)).unwrap().pod::<Quad>().unwrap(), quad);
                }
            }
            Self::PodShared => unreachable!("it shares its client"),
            Self::Serde => {
                let order = Order::sample();
                for _ in 0..rounds {
                    let reply = session.call(method, options, Encoded(Positional, &order)).unwrap();
                    std::hint::black_box(reply.decode::<Order, ()>().unwrap().unwrap());
                }
            }
            Self::Bulk => {
                for round in 0..rounds {
                    let mut loan = session.loan(BULK).unwrap();
                    loan.fill(round as u8);
                    session.call(method, options, loan).unwrap();
                }
            }
            Self::BulkUntouched => {
                for _ in 0..rounds {
                    let loan = session.loan(BULK).unwrap();
                    session.call(method, options, loan).unwrap();
                }
            }
            Self::Pipelined => {
                let quad = quad();
                for _ in 0..rounds {
                    for _ in 0..64 {
                        session.start(method, options, Pod(&quad)).unwrap();
                    }
                    while let Some(answer) = session.next() {
                        assert_eq!(answer.unwrap().pod::<Quad>().unwrap(), quad);
                    }
                }
            }
        }
    }

    /// Makes `rounds` calls in this task.
    pub async fn call_async(self, client: &Client, rounds: u64) {
        let options = Self::options();
        for round in 0..rounds {
            let quad = Quad([round; 4]);
            let reply = client.call_async(self.method(), &options, Pod(&quad)).await.unwrap();
            assert_eq!(reply.pod::<Quad>().unwrap(), quad);
        }
    }

    /// Answers one call.
    #[inline]
    pub fn answer(call: Call<'_>) {
        match call.method() {
            0 => {
                let words: [u64; 6] = call.pod().unwrap();
                call.reply(Pod(&words));
            }
            1 | 5 | 6 => {
                let quad: Quad = call.pod().unwrap();
                call.reply(Pod(&quad));
            }
            2 => {
                let order: Order = call.decode().unwrap();
                call.reply(Encoded(Positional, &order));
            }
            3 => {
                let add = |sums: [u64; 8], block: [u64; 8]| std::array::from_fn(|i| sums[i].wrapping_add(block[i]));
                let sums = call.view().fold([0; 8], add);
                call.reply(Pod(&sums.into_iter().fold(0_u64, u64::wrapping_add)));
            }
            4 => call.reply(()),
            other => panic!("no work {other}"),
        }
    }
}
