//! One copy of a call: sent, awaited, compared.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_control::shadow::{Difference, Piece};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shm_rpc::{CallOptions, Deadline, Encoding, Reply, View};
use tokio::sync::{oneshot, watch};

use super::book::{Book, Place, Verdict};
use super::compare::{Found, first_difference};
use super::value::{Unserializable, Value, of};
use crate::call::Failure;
use crate::call::routes::{Outgoing, Routes};

/// The longest answer that is looked into. Of a longer one, length and digest are compared.
const MOST_BYTES: usize = 64 * 1024;

/// The longest that a copy is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How deep an answer may be nested, as everywhere.
const MAX_DEPTH: usize = 128;

/// An answer that is to be compared. It is a copy: what lies in the callee's arena is given back at once.
#[derive(Debug)]
pub(crate) struct Answered {
    is_fault: bool,
    len: usize,
    encoding: Encoding,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    All(Vec<u8>),
    /// Only comparable with one of the same encoding.
    Digest(u64),
}

impl Answered {
    pub(crate) fn new(reply: &Reply, encoding: Encoding) -> Self {
        let view = reply.view();
        let bytes = match view.len() {
            ..=MOST_BYTES => Bytes::All(view.to_vec()),
            _ => Bytes::Digest(digest(&view)),
        };
        Self { is_fault: reply.is_fault(), len: view.len(), encoding, bytes }
    }

    const fn piece(&self) -> Piece {
        match (&self.bytes, self.is_fault) {
            (Bytes::Digest(_), _) => Piece::Long,
            (Bytes::All(_), true) => Piece::Fault,
            (Bytes::All(_), false) => Piece::Answer,
        }
    }
}

fn digest(view: &View<'_>) -> u64 {
    let step = |mut hasher: DefaultHasher, words: [u64; 8]| {
        words.into_iter().for_each(|it| hasher.write_u64(it));
        hasher
    };
    view.fold(DefaultHasher::new(), step).finish()
}

/// How the call itself was answered, and what it took.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) answer: Answered,
    pub(crate) took: Duration,
}

/// Two answers.
#[derive(Debug)]
pub(crate) enum Compared {
    Equal,
    Different(Found),
    /// They are too long, and of two encodings.
    NobodyCanTell,
}

/// Compares two answers.
pub(crate) type Compare = fn(&Answered, &Answered) -> Compared;

/// A copy that is to be sent.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) method: (&'static str, u32),
    pub(crate) options: CallOptions,
    /// The request, as the call itself has it.
    pub(crate) request: Arc<[u8]>,
    pub(crate) target: Arc<Outgoing>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) book: Arc<Book>,
    pub(crate) place: Place,
    pub(crate) in_force: watch::Receiver<()>,
    /// Nothing: the call has no answer.
    pub(crate) heard: oneshot::Receiver<Heard>,
    /// [`compare`] for what the method returns.
    pub(crate) compare: Compare,
}

impl Copy {
    /// Sends it, compares its answer with that of the call, and notes what came of it.
    pub(crate) async fn run(self) {
        let Self { method: (name, id), options, request, target, routes, book, place, mut in_force, heard, compare } =
            self;
        let options = CallOptions { shadow: true, ..options.until(Deadline::after(PATIENCE)) };
        let exchange = async {
            let begun = Instant::now();
            let result = target.client.call_async(id, &options, &*request).await;
            let beside_ns = nanoseconds(begun.elapsed());
            if matches!(result, Err(Failure::ProtocolViolation(_))) {
                routes.tell_violation(&target);
            }
            let answer = result.map(|reply| Answered::new(&reply, target.encoding));
            match heard.await {
                Ok(heard) => judge(&heard, answer, beside_ns, compare),
                Err(_) => Verdict::Skipped,
            }
        };
        let verdict = tokio::select! {
            biased;
            // Nothing is ever said there: only its end is heard.
            _ = in_force.changed() => Verdict::Skipped,
            verdict = exchange => verdict,
        };
        drop(place);
        book.note(name, verdict);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn judge(heard: &Heard, answer: Result<Answered, Failure>, beside_ns: u64, compare: Compare) -> Verdict {
    let charge = &heard.answer;
    let charge_ns = nanoseconds(heard.took);
    let difference = |found: Found, beside_bytes: usize| Difference {
        path: found.path,
        charge: found.charge,
        beside: found.beside,
        charge_bytes: charge.len as u64,
        beside_bytes: beside_bytes as u64,
        charge_ns,
        beside_ns,
    };
    let beside = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let Some(piece) = failed(&failure) else { return Verdict::Skipped };
            let found = Found { path: String::new(), charge: charge.piece(), beside: piece };
            return Verdict::Failed(difference(found, 0));
        }
    };
    match compare(charge, &beside) {
        Compared::NobodyCanTell => Verdict::Skipped,
        Compared::Equal => Verdict::Equal { charge_ns, beside_ns },
        Compared::Different(found) => Verdict::Different(difference(found, beside.len)),
    }
}

/// What a copy without an answer has instead of one; none: it says nothing of the version beside.
const fn failed(failure: &Failure) -> Option<Piece> {
    match failure {
        Failure::Deadline { .. } => Some(Piece::Late),
        Failure::MaybeExecuted => Some(Piece::Died),
        Failure::Internal(_) | Failure::ProtocolViolation(_) => Some(Piece::Internal),
        Failure::Invalid(_) | Failure::TooLarge { .. } => Some(Piece::Refused),
        Failure::NotStarted
        | Failure::Draining
        | Failure::Overloaded { .. }
        | Failure::Cancelled { .. }
        | Failure::NoService
        | Failure::Denied => None,
    }
}

/// Compares two answers of a method that returns these types.
pub(crate) fn compare<T, E>(charge: &Answered, beside: &Answered) -> Compared
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    let whole = |charge, beside| Compared::Different(Found { path: String::new(), charge, beside });
    match (&charge.bytes, &beside.bytes) {
        _ if charge.is_fault != beside.is_fault => {
            let piece = |it: &Answered| if it.is_fault { Piece::Fault } else { Piece::Answer };
            whole(piece(charge), piece(beside))
        }
        (Bytes::All(one), Bytes::All(other)) => {
            // What is written alike is read alike: the usual case, and cheap.
            if one == other {
                return Compared::Equal;
            }
            let read = |bytes: &[u8]| if charge.is_fault { read::<E>(bytes) } else { read::<T>(bytes) };
            match (read(one), read(other)) {
                (Ok(one), Ok(other)) => first_difference(&one, &other).map_or(Compared::Equal, Compared::Different),
                (Err(Unserializable), Err(Unserializable)) => whole(Piece::Unreadable, Piece::Unreadable),
                (Ok(_), Err(Unserializable)) => whole(charge.piece(), Piece::Unreadable),
                (Err(Unserializable), Ok(_)) => whole(Piece::Unreadable, beside.piece()),
            }
        }
        _ if charge.encoding != beside.encoding => Compared::NobodyCanTell,
        (Bytes::Digest(one), Bytes::Digest(other)) if one == other && charge.len == beside.len => Compared::Equal,
        (Bytes::Digest(_), _) | (_, Bytes::Digest(_)) => whole(charge.piece(), beside.piece()),
    }
}

/// What the bytes are as the method's type.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<Value, Unserializable> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_DEPTH);
    of(&T::deserialize(&mut decoder).map_err(|_| Unserializable)?)
}
