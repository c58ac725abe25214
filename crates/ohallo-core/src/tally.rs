//! Counts of objects by label, kept as the objects change: reading them visits no object.

use std::collections::BTreeMap;

/// How many objects have each label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<L>(BTreeMap<L, i64>);

// === impl Tally ===

impl<L> Default for Tally<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L: Ord> Tally<L> {
    /// Records that an object had one label and has the other; `None` where it does not exist or does not count.
    pub fn change(&mut self, before: Option<L>, now: Option<L>) {
        if before == now {
            return;
        }
        if let Some(count) = before.as_ref().and_then(|label| self.0.get_mut(label)) {
            *count -= 1;
            if *count == 0 {
                before.map(|label| self.0.remove(&label));
            }
        }
        if let Some(label) = now {
            *self.0.entry(label).or_default() += 1;
        }
    }

    /// Only labels that an object has.
    pub fn counts(&self) -> &BTreeMap<L, i64> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_counts_are_those_of_the_objects_after_any_changes(
            changes in prop::collection::vec((0_usize..5, prop::option::of(0_u8..4)), 0..60),
        ) {
            let mut objects = [None; 5];
            let mut tally = Tally::default();
            for (object, label) in changes {
                tally.change(std::mem::replace(&mut objects[object], label), label);
                let mut counted = BTreeMap::new();
                objects.iter().flatten().for_each(|label| *counted.entry(*label).or_default() += 1);
                prop_assert_eq!(tally.counts(), &counted);
            }
        }
    }
}
