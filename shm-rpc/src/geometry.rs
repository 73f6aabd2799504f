//! The sizes of a segment.

/// The size of a page and of the control page of a segment, in bytes.
pub(crate) const PAGE: usize = 4096;

/// The sizes of one segment: how many messages its ring holds and how many bytes of payload lie beside it.
///
/// Both ends must use the same geometry for a segment; the reader checks it against the descriptor and against the
/// segment's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    slots: u32,
    arena: u32,
}

/// Why a geometry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The number of slots is not a power of two between the bounds.
    #[error("slots = {found}: must be a power of two from {} to {}", Geometry::MIN_SLOTS, Geometry::MAX_SLOTS)]
    Slots {
        /// The number asked for.
        found: u32,
    },
    /// The arena is not a multiple of 4096 bytes, or too large.
    #[error("arena = {found}: must be a multiple of 4096 bytes, at most {}", Geometry::MAX_ARENA)]
    Arena {
        /// The number of bytes asked for.
        found: u32,
    },
}

impl Geometry {
    /// The fewest slots a ring has. They are the fastest for one call at a time: the fewer lines take turns, the sooner each is back.
    pub const MIN_SLOTS: u32 = 4;
    /// The most slots a ring has.
    pub const MAX_SLOTS: u32 = 512;
    /// The largest arena, in bytes.
    pub const MAX_ARENA: u32 = 1 << 30;
    /// 64 slots and an arena of 1 MiB (which costs memory only where it is used): with both its segments an idle channel
    /// costs 16 KiB.
    pub const DEFAULT: Self = Self { slots: 64, arena: 1 << 20 };

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`GeometryError`] unless `slots` is a power of two from [`Self::MIN_SLOTS`] to [`Self::MAX_SLOTS`] and `arena` a
    /// multiple of 4096 of at most [`Self::MAX_ARENA`] (0: no arena, every message must fit into its slot).
    pub const fn new(slots: u32, arena: u32) -> Result<Self, GeometryError> {
        if !slots.is_power_of_two() || slots < Self::MIN_SLOTS || slots > Self::MAX_SLOTS {
            return Err(GeometryError::Slots { found: slots });
        }
        if !arena.is_multiple_of(PAGE as u32) || arena > Self::MAX_ARENA {
            return Err(GeometryError::Arena { found: arena });
        }
        Ok(Self { slots, arena })
    }

    /// How many messages the ring holds.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.slots
    }

    /// How many bytes of payload the arena holds.
    #[must_use]
    pub const fn arena(self) -> u32 {
        self.arena
    }

    /// The size of the whole segment in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        crate::layout::arena_offset(self.slots) + self.arena as usize
    }
}

impl Default for Geometry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        for bad in [0, 1, 2, 7, 9, 63, 1024, u32::MAX] {
            assert_eq!(Geometry::new(bad, 0), Err(GeometryError::Slots { found: bad }));
        }
        for bad in [1, 4095, Geometry::MAX_ARENA + 4096, u32::MAX] {
            assert_eq!(Geometry::new(64, bad), Err(GeometryError::Arena { found: bad }));
        }
        assert_eq!(Geometry::new(64, 1 << 20), Ok(Geometry::DEFAULT));
    }

    #[test]
    fn an_idle_channel_of_two_default_segments_costs_16_kib() {
        assert_eq!(2 * (Geometry::DEFAULT.bytes() - Geometry::DEFAULT.arena() as usize), 16 * 1024);
    }
}
