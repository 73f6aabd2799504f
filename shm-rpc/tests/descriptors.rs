//! A process that has no descriptor left. Alone in its program: the limit is everybody's.

use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shm_rpc::{Blob, CallError, CallOptions, Client, End, Geometry, Server};

/// Lets no more descriptors be opened.
fn no_more() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
}

fn as_before() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn who_has_no_descriptor_left_loses_blobs_and_nothing_else() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let (asked, answered) = (Blob::copy_of(&[1; 5000]).unwrap(), Blob::copy_of(&[2; 6000]).unwrap());
    let mut server = Server::new(callee);
    let control = server.control();
    let serving = thread::spawn(move || {
        server.serve(|call| match call.method() {
            0 => call.reply(&answered),
            _ => {
                let len = call.view().len() as u64;
                call.reply(&len.to_le_bytes()[..]);
            }
        })
    });
    let client = Client::new(caller);
    let none = CallOptions::NONE;
    for _ in 0..3 {
        assert_eq!(client.call(0, &none, ()).unwrap().view().as_slice(), Some(&[2; 6000][..]));
        assert_eq!(client.call(1, &none, &asked).unwrap().pod::<u64>().unwrap(), 5000);
        no_more();
        let there = client.call(1, &none, &asked);
        let back = client.call(0, &none, ());
        let bytes = client.call(1, &none, &[3; 40][..]);
        as_before();
        assert!(matches!(there, Err(CallError::Overloaded { .. })), "{there:?}");
        assert!(matches!(back, Err(CallError::Internal(_))), "{back:?}");
        assert_eq!(bytes.unwrap().pod::<u64>().unwrap(), 40);
    }
    assert_eq!(client.violation(), None);
    control.close();
    serving.join().unwrap().unwrap();
}
