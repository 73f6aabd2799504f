//! A ring whose peer lies: any script of writes into its own segment leaves its victim with results, or with a violation that it
//! has found; never with a panic, an endless loop or a read outside of the segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shm_rpc::hostile::{callee_against, caller_against};

fuzz_target!(|script: &[u8]| {
    let Some((side, script)) = script.split_first() else { return };
    if side & 1 == 0 {
        let _ = callee_against(script);
    } else {
        let _ = caller_against(script);
    }
});
