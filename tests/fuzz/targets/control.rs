//! A control packet of a worker: any bytes give a message that can be written and read again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_control::{MAX_PACKET, ToSupervisor};

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MAX_PACKET {
        return;
    }
    if let Ok(message) = rmp_serde::from_slice::<ToSupervisor>(bytes) {
        let written = rmp_serde::to_vec_named(&message).expect("a message can be written");
        let again = rmp_serde::from_slice::<ToSupervisor>(&written).expect("what was written can be read");
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
    }
});
