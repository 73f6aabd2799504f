//! From a policy to a classic BPF program.
//!
//! The policy is a function of the call's number. Neighbouring numbers with the same answer are one range, and the ranges are a
//! binary tree of `jge`, so every call costs about log2(ranges) comparisons.

use super::policy::{Answer, Check, Test};

/// One instruction, as in `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LOAD_WORD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xc000_00b7;

/// The kernel takes no longer programs.
const LONGEST: usize = 4096;

/// Numbers above this all have the answer of this.
const LAST: u32 = 1_024;

/// A run of numbers that get the same answer, up to the next one's first.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    answer: Answer,
}

pub(super) fn compile(policy: impl Fn(u32) -> Answer) -> Vec<Instruction> {
    let mut ranges: Vec<Range> = Vec::new();
    for first in 0..=LAST {
        let answer = policy(first);
        if ranges.last().is_none_or(|it| it.answer != answer) {
            ranges.push(Range { first, answer });
        }
    }
    let mut program = vec![
        load(ARCHITECTURE),
        Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: THIS_ARCHITECTURE },
        give_back(RETURN_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(tree(&ranges));
    assert!(program.len() <= LONGEST, "the policy is a constant, and a test compiles it");
    program
}

pub(super) fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for it in program {
        bytes.extend(it.code.to_ne_bytes());
        bytes.extend([it.jt, it.jf]);
        bytes.extend(it.k.to_ne_bytes());
    }
    bytes
}

const fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

const fn give_back(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

const fn fail(errno: i32) -> Instruction {
    give_back(RETURN_ERRNO | errno as u32)
}

/// Expects the number in the accumulator.
fn tree(ranges: &[Range]) -> Vec<Instruction> {
    if let [only] = ranges {
        return leaf(only.answer);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = tree(low);
    let mut program = match u8::try_from(below.len()) {
        Ok(over) => vec![Instruction { code: JUMP_GREATER_EQUAL, jt: over, jf: 0, k: high[0].first }],
        // A conditional jump reaches 255 instructions, a plain one everything.
        Err(_) => vec![
            Instruction { code: JUMP_GREATER_EQUAL, jt: 0, jf: 1, k: high[0].first },
            Instruction { code: JUMP, jt: 0, jf: 0, k: below.len() as u32 },
        ],
    };
    program.extend(below);
    program.extend(tree(high));
    program
}

fn leaf(answer: Answer) -> Vec<Instruction> {
    match answer {
        Answer::Allow => vec![give_back(RETURN_ALLOW)],
        Answer::Fail(errno) => vec![fail(errno)],
        Answer::Check(check) => argument(check),
    }
}

/// The lower half of the argument is what the kernel reads of a flags word, a family or a request.
fn argument(Check { argument, test, errno }: Check) -> Vec<Instruction> {
    let half = if cfg!(target_endian = "little") { 0 } else { 4 };
    let mut program = vec![load(ARGUMENTS + 8 * argument + half)];
    let (values, code): (&[u32], u16) = match &test {
        Test::AnyBit(mask) => (std::slice::from_ref(mask), JUMP_ANY_BIT),
        Test::OneOf(values) | Test::NoneOf(values) => (values, JUMP_EQUAL),
    };
    // Every hit jumps over the rest to the last instruction.
    for (i, k) in values.iter().enumerate() {
        program.push(Instruction { code, jt: (values.len() - i) as u8, jf: 0, k: *k });
    }
    let (miss, hit) = match test {
        Test::AnyBit(_) | Test::OneOf(_) => (give_back(RETURN_ALLOW), fail(errno)),
        Test::NoneOf(_) => (fail(errno), give_back(RETURN_ALLOW)),
    };
    program.extend([miss, hit]);
    program
}

#[cfg(test)]
mod tests {
    use super::super::policy;
    use super::*;

    /// The kernel's machine, as far as these programs use it. Also returns how many instructions ran.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        let (mut at, mut accumulator) = (0, 0);
        for step in 1.. {
            let it = program[at];
            at += 1;
            let condition = match it.code {
                LOAD_WORD => {
                    accumulator = match it.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize] as u32,
                    };
                    continue;
                }
                RETURN => return (it.k, step),
                JUMP => {
                    at += it.k as usize;
                    continue;
                }
                JUMP_EQUAL => accumulator == it.k,
                JUMP_GREATER_EQUAL => accumulator >= it.k,
                JUMP_ANY_BIT => accumulator & it.k != 0,
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if condition { it.jt } else { it.jf });
        }
        unreachable!()
    }

    fn expected(answer: Answer, arguments: [u64; 6]) -> u32 {
        match answer {
            Answer::Allow => RETURN_ALLOW,
            Answer::Fail(errno) => RETURN_ERRNO | errno as u32,
            Answer::Check(Check { argument, test, errno }) => {
                let value = arguments[argument as usize] as u32;
                let fails = match test {
                    Test::AnyBit(mask) => value & mask != 0,
                    Test::OneOf(values) => values.contains(&value),
                    Test::NoneOf(values) => !values.contains(&value),
                };
                if fails { RETURN_ERRNO | errno as u32 } else { RETURN_ALLOW }
            }
        }
    }

    #[test]
    fn the_program_answers_every_number_as_the_policy_does() {
        let program = compile(policy::answer);
        let values =
            [0, 1, 2, 3, 10, 16, 17, 0x11, 0x5412, 0x541c, 0x1000_0000, 0x2_0000, u64::from(u32::MAX), u64::MAX];
        for number in (0..2_000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            for value in values {
                let arguments = [value; 6];
                let (found, _) = run(&program, THIS_ARCHITECTURE, number, arguments);
                assert_eq!(found, expected(policy::answer(number), arguments), "call {number}, argument {value:#x}");
            }
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let program = compile(policy::answer);
        assert_eq!(run(&program, THIS_ARCHITECTURE ^ 1, 0, [0; 6]).0, RETURN_KILL_PROCESS);
        assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]).0, RETURN_KILL_PROCESS, "32-bit x86");
    }

    #[test]
    fn every_path_is_short() {
        let program = compile(policy::answer);
        let longest = (0..2_000).map(|number| run(&program, THIS_ARCHITECTURE, number, [0; 6]).1).max().unwrap();
        assert!(longest <= 20, "{longest} instructions on the longest path of {}", program.len());
    }

    #[test]
    fn jumps_longer_than_a_byte_are_right() {
        let every_second = |number: u32| if number.is_multiple_of(2) { Answer::Allow } else { Answer::Fail(1) };
        let program = compile(every_second);
        assert!(program.len() > 1_000);
        for number in 0..=LAST {
            assert_eq!(run(&program, THIS_ARCHITECTURE, number, [0; 6]).0, expected(every_second(number), [0; 6]));
        }
    }
}
