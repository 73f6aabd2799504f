//! A channel whose callee is a thread of this process.

use std::time::Duration;

use shm_rpc::{Call, CallOptions, Client, Deadline, End, Geometry, Served, Server, ServerControl};

pub type Serving = std::thread::JoinHandle<Served>;

pub fn channel(handler: impl FnMut(Call<'_>) + Send + 'static) -> (Client, ServerControl, Serving) {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let mut server = Server::new(callee);
    let control = server.control();
    let thread = std::thread::spawn(move || server.serve(handler).unwrap());
    (Client::new(caller), control, thread)
}

/// A deadline that nothing comes near, unless it is broken.
pub fn soon() -> CallOptions {
    CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)))
}

pub fn echo(call: Call<'_>) {
    let bytes = call.view().to_vec();
    call.reply(&bytes[..]);
}
