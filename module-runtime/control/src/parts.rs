//! Messages longer than a packet, or with more descriptors than one carries: cut into parts, put together again.
//!
//! ```text
//!   a message that fits          [ msgpack … ]
//!   one that does not            [ 0xc1 0 piece ] [ 0xc1 0 piece ] … [ 0xc1 1 last piece ]      descriptors in order, on any part
//! ```
//!
//! No msgpack begins with `0xc1`, so a packet says by itself which it is, and who has never heard of parts refuses them like any
//! packet that is no message. The parts of a message follow each other with nothing between them. Nothing is allocated for what
//! is announced: only what has arrived is kept, up to a bound.

use std::borrow::Cow;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;

use crate::socket::{self, SocketError};
use crate::{MAX_FDS, MAX_MESSAGE_FDS, MAX_PACKET};

/// The first byte of a part: msgpack never uses it.
const PART: u8 = 0xc1;
/// The second byte of a part that is followed by another.
const MORE: u8 = 0;
/// The second byte of the last.
const LAST: u8 = 1;

/// Bytes of a message in one part.
const PIECE: usize = MAX_PACKET - 2;

/// A packet to be sent, and which of the message's descriptors go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What to send.
    pub bytes: Vec<u8>,
    /// Indexes into the message's descriptors.
    pub fds: Range<usize>,
}

/// Cuts an encoded message with that many descriptors into packets: one, as it is, if it fits.
///
/// # Errors
/// [`SocketError::TooLarge`]: it has more than `most` bytes or [`MAX_MESSAGE_FDS`] descriptors.
pub fn cut(message: Vec<u8>, fds: usize, most: usize) -> Result<Vec<Packet>, SocketError> {
    if message.len() > most || fds > MAX_MESSAGE_FDS {
        return Err(SocketError::TooLarge(message.len()));
    }
    if message.len() <= MAX_PACKET && fds <= MAX_FDS {
        return Ok(vec![Packet { bytes: message, fds: 0..fds }]);
    }
    let count = message.len().div_ceil(PIECE).max(fds.div_ceil(MAX_FDS));
    let part = |n: usize| {
        let piece = &message[(n * PIECE).min(message.len())..((n + 1) * PIECE).min(message.len())];
        let mut bytes = vec![PART, if n + 1 == count { LAST } else { MORE }];
        bytes.extend_from_slice(piece);
        Packet { bytes, fds: (n * MAX_FDS).min(fds)..((n + 1) * MAX_FDS).min(fds) }
    };
    Ok((0..count).map(part).collect())
}

/// What has arrived of a message on one connection.
#[derive(Debug)]
pub struct Assembly {
    most: usize,
    /// Some part has arrived, the last has not.
    begun: bool,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A message that is there, still encoded, with its descriptors.
type Whole<'a> = (Cow<'a, [u8]>, Vec<OwnedFd>);

impl Assembly {
    /// Nothing yet, of messages of at most `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, begun: false, bytes: Vec::new(), fds: Vec::new() }
    }

    /// Receives one packet, with its descriptors: the worker's side. None: there is more of the message to come.
    ///
    /// # Errors
    /// As [`socket::recv`]. Nothing is kept of the message that was arriving.
    pub fn recv<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<Option<(T, Vec<OwnedFd>)>, SocketError> {
        let (len, fds) = socket::recv_bytes(socket, buffer)?;
        self.take(&buffer[..len], fds)
    }

    /// Receives one packet and refuses descriptors: the supervisor's side. None: there is more of the message to come.
    ///
    /// # Errors
    /// As [`socket::recv_without_fds`]. Nothing is kept of the message that was arriving.
    pub fn recv_without_fds<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<Option<T>, SocketError> {
        let len = socket::recv_bytes_without_fds(socket, buffer)?;
        Ok(self.take(&buffer[..len], Vec::new())?.map(|(message, _)| message))
    }

    /// Takes a packet: the message that it completes, if it does.
    ///
    /// # Errors
    /// [`SocketError::Malformed`], [`SocketError::TooLarge`]: the sender is to blame. Nothing is kept of what was arriving.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        packet: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, SocketError> {
        let taken = self.join(packet, fds);
        if !matches!(taken, Ok(None)) {
            *self = Self::new(self.most);
        }
        match taken? {
            None => Ok(None),
            Some((bytes, fds)) => Ok(Some((socket::decode(&bytes)?, fds))),
        }
    }

    fn join<'a>(&mut self, packet: &'a [u8], fds: Vec<OwnedFd>) -> Result<Option<Whole<'a>>, SocketError> {
        let (last, piece) = match packet {
            [PART, LAST, piece @ ..] => (true, piece),
            [PART, MORE, piece @ ..] => (false, piece),
            [PART, ..] => return Err(SocketError::Malformed("a part that is neither the last nor another".to_owned())),
            _ if self.begun => return Err(SocketError::Malformed("a message among the parts of another".to_owned())),
            message => return Ok(Some((message.into(), fds))),
        };
        let (bytes, descriptors) = (self.bytes.len() + piece.len(), self.fds.len() + fds.len());
        if bytes > self.most || descriptors > MAX_MESSAGE_FDS {
            return Err(SocketError::TooLarge(bytes));
        }
        self.begun = true;
        self.bytes.extend_from_slice(piece);
        self.fds.extend(fds);
        Ok(last.then(|| (std::mem::take(&mut self.bytes).into(), std::mem::take(&mut self.fds))))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::{MAX_REPORT, ToSupervisor};

    fn reason(len: usize) -> Vec<u8> {
        rmp_serde::to_vec_named(&ToSupervisor::NeverReady { reason: "x".repeat(len) }).unwrap()
    }

    /// The lengths of the reasons that come out, one for each packet that completes a message.
    fn take_all(assembly: &mut Assembly, packets: &[Packet]) -> Vec<usize> {
        let taken = packets.iter().filter_map(|it| assembly.take::<ToSupervisor>(&it.bytes, Vec::new()).unwrap());
        taken
            .map(|(message, _)| match message {
                ToSupervisor::NeverReady { reason } => reason.len(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_fits_is_one_packet_as_it_is_and_what_does_not_comes_out_whole() {
        let short = cut(reason(100), 0, MAX_REPORT).unwrap();
        assert_eq!(short, [Packet { bytes: reason(100), fds: 0..0 }]);
        let mut assembly = Assembly::new(MAX_REPORT);
        for len in [MAX_PACKET, MAX_PACKET + 1, 3 * PIECE, MAX_REPORT - 100] {
            let long = cut(reason(len), 0, MAX_REPORT).unwrap();
            assert!(long.len() > 1 && long.iter().all(|it| it.bytes.len() <= MAX_PACKET));
            assert_eq!(take_all(&mut assembly, &long), [len]);
            assert_eq!(take_all(&mut assembly, &short), [100], "nothing is left of the one before");
        }
        assert!(matches!(cut(reason(MAX_REPORT), 0, MAX_REPORT), Err(SocketError::TooLarge(_))));
    }

    #[test]
    fn descriptors_arrive_in_order_though_one_packet_cannot_carry_them() {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let file = |_| std::fs::File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        let files: Vec<std::fs::File> = (0..40).map(file).collect();
        for (n, file) in files.iter().enumerate() {
            file.set_len(n as u64).unwrap();
        }
        let packets = cut(reason(100), files.len(), MAX_REPORT).unwrap();
        assert_eq!(packets.iter().map(|it| it.fds.clone()).collect::<Vec<_>>(), [0..16, 16..32, 32..40]);
        let (mut assembly, mut buffer) = (Assembly::new(MAX_REPORT), vec![0; MAX_PACKET]);
        let mut arrived = None;
        for packet in packets {
            let fds: Vec<_> = files[packet.fds].iter().map(AsFd::as_fd).collect();
            socket::send_bytes(a.as_fd(), &packet.bytes, &fds).unwrap();
            arrived = assembly.recv::<ToSupervisor>(b.as_fd(), &mut buffer).unwrap();
        }
        let (_, fds) = arrived.unwrap();
        let lens: Vec<u64> = fds.into_iter().map(|it| std::fs::File::from(it).metadata().unwrap().len()).collect();
        assert_eq!(lens, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_among_parts_an_unknown_part_and_one_too_many_are_refused_and_forgotten() {
        let long = cut(reason(MAX_PACKET), 0, MAX_REPORT).unwrap();
        let mut assembly = Assembly::new(MAX_REPORT);
        let mut take = |bytes: &[u8]| assembly.take::<ToSupervisor>(bytes, Vec::new());
        assert!(matches!(take(&long[0].bytes), Ok(None)));
        assert!(matches!(take(&reason(1)), Err(SocketError::Malformed(_))));
        assert!(matches!(take(&reason(1)), Ok(Some(_))), "what was arriving is forgotten");
        assert!(matches!(take(&[PART, 7, 0]), Err(SocketError::Malformed(_))));
        assert!(matches!(take(&[PART]), Err(SocketError::Malformed(_))));
        for _ in 0..MAX_REPORT / PIECE {
            assert!(matches!(take(&long[0].bytes), Ok(None)));
        }
        assert!(matches!(take(&long[0].bytes), Err(SocketError::TooLarge(_))));
        assert_eq!((assembly.bytes.capacity(), assembly.begun), (0, false), "no memory is kept for it");
    }
}
