//! A descriptor kept for the moment when the process has no other left: a connection that cannot be served is taken with it, told so and
//! closed. Without it the client would wait in the queue of the listening socket, and nobody would tell it why.

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::libc::{EMFILE, ENFILE};
use tokio::net::UnixListener;

/// What a caller gets then: written without waiting.
pub(super) const SHORT: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n",
    "Connection: close\r\nContent-Length: 187\r\n\r\n",
    r#"{"code":"unavailable","blame":"host","message":"the supervisor has no file descriptor left","remedy":"Raise LimitNOFILE= of its unit or fs.file-max, or stop modules that are not needed."}"#
);

/// The descriptor, and whether it was needed lately.
#[derive(Debug)]
pub(super) struct Reserve {
    kept: Option<File>,
    short: bool,
}

impl Reserve {
    pub fn new() -> Self {
        Self { kept: take(), short: false }
    }

    /// A connection was accepted as always.
    pub fn enough(&mut self) {
        if self.kept.is_none() {
            self.kept = take();
        }
        if std::mem::take(&mut self.short) {
            tracing::warn!("there are descriptors for connections to the admin API again");
        }
    }

    /// Tells one client in the queue that there is no descriptor for it. Whether that could be done: only for want of descriptors, and
    /// if there was one in reserve.
    pub async fn shed(&mut self, listener: &UnixListener, error: &io::Error) -> bool {
        if !matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) || self.kept.take().is_none() {
            // Somebody else was quicker the last time.
            self.kept = self.kept.take().or_else(take);
            return false;
        }
        if !std::mem::replace(&mut self.short, true) {
            tracing::error!(%error, "no descriptor is left: connections to the admin API are refused");
        }
        // Not a moment longer than it takes: whoever was in the queue may be gone.
        let shed = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        let told = matches!(shed, Ok(Ok((stream, _))) if stream.try_write(SHORT.as_bytes()).is_ok());
        self.kept = take();
        told && self.kept.is_some()
    }
}

fn take() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_well_formed() {
        let (head, body) = SHORT.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let error: crate::api::ApiError = serde_json::from_str(body).unwrap();
        assert_eq!(error.code.http_status(), 503);
    }
}
