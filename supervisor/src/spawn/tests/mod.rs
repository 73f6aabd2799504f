//! Workers in the real sandbox of a real kernel.

mod house;
mod http;
mod life;
mod limits;
mod rootless;
mod sandbox;
