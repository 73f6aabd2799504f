//! Calls through ipc-channel: bare bytes, and serde values as it encodes them.

use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, bytes_channel, channel,
};

use crate::other::{Given, Other, Placement};
use crate::ways::Caller;
use crate::work::Order;

struct Bytes(IpcBytesSender, IpcBytesReceiver);

impl Caller for Bytes {
    fn call(&mut self, count: u64) {
        for round in 0..count {
            let request = [round as u8; 32];
            self.0.send(&request).unwrap();
            assert_eq!(self.1.recv().unwrap(), request);
        }
    }
}

struct Typed(IpcSender<Order>, IpcReceiver<Order>);

impl Caller for Typed {
    fn call(&mut self, count: u64) {
        let order = Order::sample();
        for _ in 0..count {
            self.0.send(order.clone()).unwrap();
            assert_eq!(self.1.recv().unwrap(), order);
        }
    }
}

pub fn start_bytes(placement: Placement) -> (Box<dyn Caller>, Other) {
    let (server, name) = IpcOneShotServer::new().unwrap();
    let other = Other::begin("ipc-channel-bytes", placement, &[], &name);
    let (_, (requests, answers)) = server.accept().unwrap();
    (Box::new(Bytes(requests, answers)), other)
}

pub fn serve_bytes(given: &Given) {
    let (their_requests, requests) = bytes_channel().unwrap();
    let (answers, their_answers) = bytes_channel().unwrap();
    IpcSender::connect(given.text.clone()).unwrap().send((their_requests, their_answers)).unwrap();
    while let Ok(request) = requests.recv() {
        answers.send(&request).unwrap();
    }
}

pub fn start_typed(placement: Placement) -> (Box<dyn Caller>, Other) {
    let (server, name) = IpcOneShotServer::new().unwrap();
    let other = Other::begin("ipc-channel-typed", placement, &[], &name);
    let (_, (requests, answers)) = server.accept().unwrap();
    (Box::new(Typed(requests, answers)), other)
}

pub fn serve_typed(given: &Given) {
    let (their_requests, requests) = channel::<Order>().unwrap();
    let (answers, their_answers) = channel::<Order>().unwrap();
    IpcSender::connect(given.text.clone()).unwrap().send((their_requests, their_answers)).unwrap();
    while let Ok(request) = requests.recv() {
        answers.send(request).unwrap();
    }
}
