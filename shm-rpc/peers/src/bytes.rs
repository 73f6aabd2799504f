//! Calls through what the kernel has for bytes: two pipes, a Unix stream socket.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::other::{Given, Other, Placement};
use crate::ways::Caller;

const BYTES: usize = 32;

struct Stream<R, W>(R, W);

impl<R: Read, W: Write> Caller for Stream<R, W> {
    fn call(&mut self, count: u64) {
        for round in 0..count {
            let request = [round as u8; BYTES];
            let mut answer = [0; BYTES];
            self.1.write_all(&request).unwrap();
            self.0.read_exact(&mut answer).unwrap();
            assert_eq!(request, answer);
        }
    }
}

fn echo(mut from: impl Read, mut to: impl Write) {
    let mut request = [0; BYTES];
    while from.read_exact(&mut request).is_ok() {
        to.write_all(&request).unwrap();
    }
}

pub fn start_pipe(placement: Placement) -> (Box<dyn Caller>, Other) {
    let (their_requests, requests) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (answers, their_answers) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let other = Other::start("pipe", placement, &[&their_requests, &their_answers], "");
    (Box::new(Stream(File::from(answers), File::from(requests))), other)
}

pub fn serve_pipe(given: &Given) {
    let (requests, answers) = (File::from(given.take(0)), File::from(given.take(1)));
    given.ready();
    echo(requests, answers);
}

pub fn start_socket(placement: Placement) -> (Box<dyn Caller>, Other) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = Other::start("unix-socket", placement, &[&theirs], "");
    (Box::new(Stream(ours.try_clone().unwrap(), ours)), other)
}

pub fn serve_socket(given: &Given) {
    let socket: OwnedFd = given.take(0);
    let socket = UnixStream::from(socket);
    given.ready();
    echo(&socket, &socket);
}
