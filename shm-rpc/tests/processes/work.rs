//! What the calls carry: everything follows from the call's number, so that a torn or foreign message is seen.

const UNIT: usize = 500;

fn body(number: u64, salt: u8) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    // In the slot, or in the arena.
    bytes.extend(std::iter::repeat_n(number as u8 ^ salt, (number % 3) as usize * UNIT));
    bytes
}

pub fn request(number: u64) -> Vec<u8> {
    body(number, 0x55)
}

pub fn answer(number: u64) -> Vec<u8> {
    body(number, 0xaa)
}

/// The number of a request, if all of it is as it was sent.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (bytes == request(number)).then_some(number)
}
