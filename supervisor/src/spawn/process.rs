//! A worker's first process, known by its pidfd.

use std::io;

use mortise_control::Role;

use crate::lifecycle::ExitStatus;

/// A worker's first process.
#[derive(Debug)]
pub struct Process {
    role: Role,
}

impl Process {
    /// Waits for its end and collects it. Must be called in a tokio runtime. Cancel safe; answers the same again when asked again.
    pub async fn exited(&self) -> ExitStatus {
        let _ = self.role;
        unimplemented!()
    }

    /// Sends SIGTERM. One that has ended is no error.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn terminate(&self) -> io::Result<()> {
        unimplemented!()
    }
}
