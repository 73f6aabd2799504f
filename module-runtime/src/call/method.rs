//! A method as both sides know it: its name, and the number that travels.

/// A method of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    name: &'static str,
    id: u32,
    repeat: Repeat,
}

/// Whether a call may be executed more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Repeat {
    /// Never: a call whose callee ended with it in its hands fails with `MaybeExecuted`.
    #[default]
    AtMostOnce,
    /// Yes: such a call is sent to another worker.
    Idempotent,
}

impl Method {
    /// A method that is executed at most once.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, id: method_id(name), repeat: Repeat::AtMostOnce }
    }

    /// The same method, which may be executed more than once for one call.
    #[must_use]
    pub const fn idempotent(self) -> Self {
        Self { repeat: Repeat::Idempotent, ..self }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What travels instead of the name.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Whether a call may be executed more than once.
    #[must_use]
    pub const fn repeat(&self) -> Repeat {
        self.repeat
    }
}

/// The number by which a method is called: the 32-bit FNV-1a hash of its name. So a caller needs nothing but the name, and a
/// method that is added, removed or moved changes no other.
#[must_use]
pub const fn method_id(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_fnv_1a() {
        assert_eq!((method_id(""), method_id("a"), method_id("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
        assert_eq!(Method::new("check").idempotent().id(), method_id("check"));
    }
}
