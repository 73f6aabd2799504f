//! More than a control socket is made for, and other things.

use std::io::IoSlice;
use std::os::fd::AsRawFd as _;

use mortise_control::{ChannelId, MAX_PACKET, Released, ServiceName, ToSupervisor, WorkerId};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};

use crate::numbers::Numbers;
use crate::raw::Raw;

/// Descriptors that the kernel lets one message have.
const MOST_DESCRIPTORS: usize = 253;

/// Packets of noise, of every length, on ever new connections.
pub fn noise() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    loop {
        let Ok(raw) = Raw::try_connect() else { continue };
        loop {
            let length = numbers.next() as usize % MAX_PACKET;
            let bytes: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
            if send(&raw, &bytes, &[]).is_err() {
                break;
            }
        }
    }
}

/// The largest packets that the kernel takes.
pub fn huge_packets() {
    let bytes = vec![0x93; 200 << 10];
    loop {
        let Ok(raw) = Raw::try_connect() else { continue };
        let _ = setsockopt(&raw.socket, sockopt::SndBuf, &(4 << 20));
        let mut length = bytes.len();
        while length > MAX_PACKET {
            match send(&raw, &bytes[..length], &[]) {
                Ok(_) => {}
                Err(nix::errno::Errno::EMSGSIZE) => length -= 4 << 10,
                Err(_) => break,
            }
        }
    }
}

/// The beginning of a message in parts, and never its end; some parts are empty.
pub fn endless_parts() {
    let raw = Raw::ready();
    let mut part = vec![0_u8; MAX_PACKET];
    (part[0], part[1]) = (0xc1, 0);
    for number in 0_usize.. {
        let length = if number % 2 == 0 { 2 } else { MAX_PACKET };
        if send(&raw, &part[..length], &[]).is_err() {
            return;
        }
    }
}

/// Messages that are right, and come as fast as they can be sent.
pub fn endless_pongs() {
    let raw = Raw::ready();
    for nonce in 0.. {
        if !raw.say(&ToSupervisor::Pong { nonce, healthy: true }) {
            return;
        }
    }
}

/// As many descriptors as the kernel takes, with every message.
pub fn descriptors() {
    let null = std::fs::File::open("/dev/null").expect("/dev/null");
    let many = [null.as_raw_fd(); MOST_DESCRIPTORS];
    let pong = rmp_serde::to_vec_named(&ToSupervisor::Pong { nonce: 0, healthy: true }).expect("a message");
    let raw = Raw::ready();
    while send(&raw, &pong, &many).is_ok() {}
}

/// Connections that are made and dropped, or made and kept.
pub fn connections() {
    let mut kept = Vec::new();
    loop {
        match Raw::try_connect() {
            Ok(raw) if kept.len() < 100 => kept.push(raw),
            Ok(raw) => {
                raw.say(&ToSupervisor::Ready);
                kept.swap_remove(0);
            }
            Err(_) => kept.truncate(50),
        }
    }
}

/// Messages of the right form that say what is not so, of channels and workers that are not its own.
pub fn lies() {
    let raw = Raw::ready();
    let mut numbers = Numbers(7);
    loop {
        let number = numbers.next();
        let channel = ChannelId(number % 64);
        let worker = WorkerId { slot: (number % 8) as u32, generation: (number % 4) as u32 };
        let message = match number % 9 {
            0 => ToSupervisor::Mapped { channel },
            1 => ToSupervisor::Released(Released { channel, calls: number }),
            2 => ToSupervisor::RoutesApplied { table: None, epoch: number },
            3 => ToSupervisor::HttpDrained { worker },
            4 => ToSupervisor::Violation { channel, what: "\u{1b}[2J a lie\n".repeat(1000) },
            5 => ToSupervisor::Want { service: ServiceName::new(&format!("s{}", number % 10_000)).expect("a name") },
            6 => ToSupervisor::NeverReady { reason: "\u{202e}".repeat(10_000) },
            7 => ToSupervisor::Pong { nonce: number, healthy: false },
            _ => ToSupervisor::Ready,
        };
        if !raw.say(&message) {
            return;
        }
    }
}

fn send(raw: &Raw, bytes: &[u8], descriptors: &[i32]) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(raw.socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)
}
