//! A request's body on its way to a worker, streamed, counted, and able to begin again as long as no worker has got any of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Bytes kept for beginning again. hyper asks for body before it has written the head, so that a connection that turns out
/// to be closed has usually cost the first pieces of the body.
const REPLAY_BYTES: usize = 128 << 10;

/// Bytes of the present request that the kernel has taken on a connection to a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<AtomicU64>);

impl Written {
    /// Another request begins.
    fn begin(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether no byte of the request has gone.
    pub(crate) fn nothing(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// Why a body did not reach the worker whole. The client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadFault {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the client did not send the whole body")]
    Broken,
    #[error("this attempt is over")]
    Superseded,
}

/// A request's body, to be given to one attempt after another.
#[derive(Debug)]
pub(crate) struct Upload(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    body: Incoming,
    declared: SizeHint,
    empty: bool,
    /// Bytes that may still come.
    room: u64,
    attempt: u32,
    /// What earlier attempts, and this one, have been given so far; none once a worker has got some of the request.
    replay: Option<Vec<Bytes>>,
    replay_bytes: usize,
    fault: Option<UploadFault>,
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(crate) struct UploadBody {
    state: Arc<Mutex<State>>,
    attempt: u32,
    /// The next piece of `replay`.
    at: usize,
    given: u64,
    written: Written,
}

/// Whether a failed attempt can be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// The whole body is still here.
    Possible,
    /// Some of it is gone.
    Impossible,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upload {
    /// Takes a body of which at most `most` bytes may come.
    pub(crate) fn new(body: Incoming, most: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            declared: body.size_hint(),
            empty: body.is_end_stream(),
            body,
            room: most,
            attempt: 0,
            replay: Some(Vec::new()),
            replay_bytes: 0,
            fault: None,
        })))
    }

    /// The body for a new attempt over a connection; earlier ones get no more of it.
    pub(crate) fn attempt(&self, written: Written) -> UploadBody {
        let mut state = lock(&self.0);
        state.attempt += 1;
        written.begin();
        UploadBody { state: Arc::clone(&self.0), attempt: state.attempt, at: 0, given: 0, written }
    }

    /// Whether everything that was given to attempts is still here.
    pub(crate) fn restart(&self) -> Restart {
        if lock(&self.0).replay.is_some() { Restart::Possible } else { Restart::Impossible }
    }

    /// What the client got wrong.
    pub(crate) fn fault(&self) -> Option<UploadFault> {
        lock(&self.0).fault
    }
}

impl UploadBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadFault>>> {
        let mut state = lock(&self.state);
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(UploadFault::Superseded)));
        }
        if let Some(piece) = state.replay.as_ref().and_then(|it| it.get(self.at)) {
            let piece = piece.clone();
            self.at += 1;
            return Poll::Ready(Some(Ok(piece)));
        }
        loop {
            let frame = match Pin::new(&mut state.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(state.fail(UploadFault::Broken)))),
            };
            // Trailers go no further: a worker did not agree to any.
            let Ok(data) = frame.into_data() else { continue };
            match state.room.checked_sub(data.len() as u64) {
                Some(room) => state.room = room,
                None => return Poll::Ready(Some(Err(state.fail(UploadFault::TooLarge)))),
            }
            if self.written.nothing() && state.replay_bytes + data.len() <= REPLAY_BYTES {
                state.replay_bytes += data.len();
                if let Some(replay) = &mut state.replay {
                    replay.push(data.clone());
                    self.at += 1;
                }
            } else {
                state.replay = None;
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

impl State {
    fn fail(&mut self, fault: UploadFault) -> UploadFault {
        self.replay = None;
        self.fault = Some(fault);
        fault
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let this = self.get_mut();
        this.poll_data(cx).map(|it| {
            it.map(|data| {
                data.map(|data| {
                    this.given += data.len() as u64;
                    Frame::data(data)
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        state.empty || state.declared.exact().is_some_and(|it| it == self.given)
    }

    fn size_hint(&self) -> SizeHint {
        match lock(&self.state).declared.exact() {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.given)),
            None => SizeHint::default(),
        }
    }
}
