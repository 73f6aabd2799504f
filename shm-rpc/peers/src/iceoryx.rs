//! Calls through iceoryx2: request and response, looked for all the time, or slept for with its events.

use std::rc::Rc;

use iceoryx2::port::client::Client;
use iceoryx2::port::listener::{Listener, ListenerWaitError};
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::server::Server;
use iceoryx2::prelude::*;

use crate::other::{Given, Other, Placement};
use crate::ways::Caller;

type Message = [u64; 4];
/// The request that ends the server, so that it cleans up.
const END: Message = [u64::MAX; 4];

/// A node and what is found through it.
struct Place {
    node: Node<ipc::Service>,
    name: String,
}

impl Place {
    fn new(name: &str) -> Self {
        set_log_level(LogLevel::Error);
        Self { node: NodeBuilder::new().create::<ipc::Service>().unwrap(), name: name.to_owned() }
    }

    fn named(&self, part: &str) -> ServiceName {
        format!("{}/{part}", self.name).as_str().try_into().unwrap()
    }

    fn client(&self) -> Client<ipc::Service, Message, (), Message, ()> {
        let service = self.node.service_builder(&self.named("calls")).request_response::<Message, Message>();
        service.open_or_create().unwrap().client_builder().create().unwrap()
    }

    fn server(&self) -> Server<ipc::Service, Message, (), Message, ()> {
        let service = self.node.service_builder(&self.named("calls")).request_response::<Message, Message>();
        service.open_or_create().unwrap().server_builder().create().unwrap()
    }

    fn notifier(&self, part: &str) -> Notifier<ipc::Service> {
        let service = self.node.service_builder(&self.named(part)).event().open_or_create().unwrap();
        service.notifier_builder().create().unwrap()
    }

    fn listener(&self, part: &str) -> Listener<ipc::Service> {
        let service = self.node.service_builder(&self.named(part)).event().open_or_create().unwrap();
        service.listener_builder().create().unwrap()
    }
}

struct Events {
    to: Notifier<ipc::Service>,
    from: Listener<ipc::Service>,
}

impl Events {
    fn wait(&self) {
        match self.from.blocking_wait(|_| {}) {
            // Whoever was stopped and goes on has been interrupted.
            Ok(_) | Err(ListenerWaitError::InterruptSignal) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

struct Calls {
    client: Client<ipc::Service, Message, (), Message, ()>,
    events: Option<Events>,
    _place: Place,
}

impl Calls {
    fn send(&self, message: Message) -> Option<Message> {
        let pending = self.client.send_copy(message).unwrap();
        if let Some(events) = &self.events {
            events.to.notify().unwrap();
        }
        if message == END {
            return None;
        }
        loop {
            if let Some(response) = pending.receive().unwrap() {
                return Some(*response);
            }
            match &self.events {
                Some(events) => events.wait(),
                None => std::hint::spin_loop(),
            }
        }
    }
}

struct Shared(Rc<Calls>);

impl Caller for Shared {
    fn call(&mut self, count: u64) {
        for round in 0..count {
            let message = [round; 4];
            assert_eq!(self.0.send(message), Some(message));
        }
    }
}

fn start(way: &str, placement: Placement, with_events: bool) -> (Box<dyn Caller>, Other) {
    let name = format!("ipc-peers/{}/{way}/{placement:?}", std::process::id());
    let place = Place::new(&name);
    let other = Other::start(way, placement, &[], &name);
    let events = with_events.then(|| Events { to: place.notifier("requests"), from: place.listener("responses") });
    let calls = Rc::new(Calls { client: place.client(), events, _place: place });
    let ending = Rc::clone(&calls);
    (
        Box::new(Shared(calls)),
        other.ended_by(move || {
            ending.send(END);
        }),
    )
}

fn serve(given: &Given, with_events: bool) {
    let place = Place::new(&given.text);
    let server = place.server();
    let events = with_events.then(|| Events { to: place.notifier("responses"), from: place.listener("requests") });
    given.ready();
    loop {
        while let Some(request) = server.receive().unwrap() {
            if *request == END {
                return;
            }
            request.send_copy(*request).unwrap();
            if let Some(events) = &events {
                events.to.notify().unwrap();
            }
        }
        match &events {
            Some(events) => events.wait(),
            None => std::hint::spin_loop(),
        }
    }
}

pub fn start_polling(placement: Placement) -> (Box<dyn Caller>, Other) {
    start("iceoryx2", placement, false)
}

pub fn serve_polling(given: &Given) {
    serve(given, false);
}

pub fn start_event(placement: Placement) -> (Box<dyn Caller>, Other) {
    start("iceoryx2-event", placement, true)
}

pub fn serve_event(given: &Given) {
    serve(given, true);
}
