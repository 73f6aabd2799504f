//! The platform that most scenarios start from.

use super::host::Host;
use super::world::*;

/// Installed: a resource, a service over it, an HTTP service that calls it, and a base.
pub(super) fn platform() -> Host {
    let mut host = Host::new();
    host.install(module("words", 1).holding("words").package());
    host.install(module("spell", 1).serving("spell").mapping("words").package());
    host.install(module("site", 1).offering("site", "/").calling("spell").package());
    host.install(module("base", 1).base().calling("spell").package());
    host
}

/// All of it started and published.
pub(super) fn running_platform() -> Host {
    let mut host = platform();
    for module in ["base", "words", "spell", "site"] {
        host.done(start(module));
    }
    for module in ["spell", "site"] {
        host.done(publish(module));
    }
    host
}
