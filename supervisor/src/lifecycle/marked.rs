//! A map that remembers which of its values may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// A map; whoever gets at a value to change it marks its key.
#[derive(Debug)]
pub(super) struct Marked<K, V> {
    map: BTreeMap<K, V>,
    marks: BTreeSet<K>,
}

impl<K, V> Default for Marked<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), marks: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Marked<K, V> {
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        self.marks.insert(key.clone());
        Some(value)
    }

    pub(super) fn get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        self.marks.insert(key.clone());
        self.map.entry(key.clone()).or_insert_with(make)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.marks.insert(key.clone());
        self.map.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.map.remove(key)?;
        self.marks.insert(key.clone());
        Some(value)
    }

    /// The keys that were marked since this was asked last. Some may be gone.
    pub(super) fn take_marks(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.marks)
    }
}

impl<K, V> Deref for Marked<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}
