//! The attributes of `module-runtime`: `#[service]` on a trait and `#[main]` on a function. Use them from there.
//!
//! `service` holds what the attribute accepts and refuses, `expand` what it generates, `entry` is `#[main]`.
#![deny(missing_docs)]

mod entry;
mod expand;
mod service;

use proc_macro::TokenStream;

/// Makes a service of a trait: its typed client and its server. See `module_runtime::service`.
#[proc_macro_attribute]
pub fn service(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = service::Service::parse(attributes.into(), item.into()).map(|it| expand::service(&it));
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes the program's entry of an async function. See `module_runtime::main`.
#[proc_macro_attribute]
pub fn main(attributes: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(attributes.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
