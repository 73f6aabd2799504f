//! Shadow traffic: which calls a caller sends to the version beside as well, and what it tells of the answers.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, ServiceName};

/// The most methods that a caller tells of.
pub const MOST_METHODS: usize = 32;

/// The most differences that a caller tells of for one service.
pub const MOST_EXAMPLES: usize = 16;

/// The longest path of a difference, in bytes.
pub const MOST_PATH: usize = 160;

/// The longest name of a method that is told of, in bytes.
pub const MOST_NAME: usize = 64;

/// The share of a service's calls that is also sent to the version beside. Only calls of methods that are idempotent are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowRoute {
    /// Which comparison it is: what is told is told of this one, from its beginning.
    pub run: u64,
    /// How many of a hundred calls.
    pub percent: u32,
    /// The workers of the version beside: channels that are targets as well.
    pub channels: Vec<ChannelId>,
}

/// What a caller has seen of a comparison so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// The service that it calls.
    pub service: ServiceName,
    /// As in [`ShadowRoute::run`].
    pub run: u64,
    /// At most [`MOST_METHODS`].
    pub methods: Vec<ShadowedMethod>,
}

/// What it has seen of one method. Each copy is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowedMethod {
    /// Its name, at most [`MOST_NAME`] bytes.
    pub method: String,
    /// Copies that were answered as the call was.
    pub equal: u64,
    /// Copies that were answered otherwise.
    pub different: u64,
    /// Copies that had no answer where the call had one.
    pub failed: u64,
    /// Copies that were not sent or not awaited, and those whose call had no answer itself: nothing can be said of them.
    pub skipped: u64,
    /// What the calls took: counts by the buckets of [`crate::stats::Figures::latency_log2`].
    pub charge_latency_log2: Vec<u64>,
    /// The same of the copies that were answered.
    pub beside_latency_log2: Vec<u64>,
    /// Some of the differences and failures; of all methods together at most [`MOST_EXAMPLES`].
    pub examples: Vec<Difference>,
}

/// Where two answers are not the same. Of what is in them it has kinds and sizes, never a value: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The first field that differs, like `.words[3].suggestion`; empty: the answer as a whole. At most [`MOST_PATH`] bytes.
    pub path: String,
    /// What the version in charge has there.
    pub charge: Piece,
    /// What the version beside has there.
    pub beside: Piece,
    /// The length of the answer of the version in charge, in bytes.
    pub charge_bytes: u64,
    /// The length of the other.
    pub beside_bytes: u64,
    /// What the call took, in nanoseconds.
    pub charge_ns: u64,
    /// What the copy took.
    pub beside_ns: u64,
}

/// What is at a place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Nothing: the other one has more.
    Absent,
    /// `()` or `None`.
    Nothing,
    /// A truth value.
    Truth,
    /// A number.
    Number,
    /// Text of so many bytes.
    Text(u64),
    /// So many bytes.
    Bytes(u64),
    /// A sequence of so many.
    List(u64),
    /// A map of so many.
    Map(u64),
    /// A structure of so many fields.
    Structure(u64),
    /// A variant of an enumeration, by its number.
    Variant(u32),
    /// A result.
    Answer,
    /// The module's own error.
    Fault,
    /// No answer by the deadline.
    Late,
    /// No answer: the worker ended, or may have.
    Died,
    /// No answer: the method panicked, or the like.
    Internal,
    /// No answer: the call was refused.
    Refused,
    /// An answer that its caller does not understand.
    Unreadable,
    /// An answer too long to be looked into.
    Long,
}
