//! What the example modules say to each other. A caller and a callee share this file and nothing else.

pub mod markdown;
pub mod spell;
