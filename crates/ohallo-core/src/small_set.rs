//! An ordered set for places of which thousands have one member: a node of a B-tree has room for eleven.

use std::collections::{BTreeSet, btree_set};
use std::ops::RangeBounds;

/// The members in their order. Empty, it takes one pointer; with one member, an allocation of the member's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallSet<T>(Option<Box<Members<T>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Members<T> {
    One(T),
    /// At least two.
    Many(BTreeSet<T>),
}

// === impl SmallSet ===

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Ord> SmallSet<T> {
    pub fn insert(&mut self, member: T) {
        let members = match self.0.take().map(|members| *members) {
            None => Members::One(member),
            Some(Members::One(one)) if one == member => Members::One(one),
            Some(Members::One(one)) => Members::Many([one, member].into()),
            Some(Members::Many(mut many)) => {
                many.insert(member);
                Members::Many(many)
            }
        };
        self.0 = Some(Box::new(members));
    }

    pub fn remove(&mut self, member: &T) {
        let left = match self.0.as_deref_mut() {
            Some(Members::One(one)) if one == member => None,
            Some(Members::Many(many)) => {
                many.remove(member);
                if many.len() > 1 {
                    return;
                }
                many.pop_first()
            }
            Some(Members::One(_)) | None => return,
        };
        self.0 = left.map(|one| Box::new(Members::One(one)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn first(&self) -> Option<&T> {
        let (one, many) = self.parts();
        one.or_else(|| many?.first())
    }

    pub fn last(&self) -> Option<&T> {
        let (one, many) = self.parts();
        one.or_else(|| many?.last())
    }

    /// The members within these bounds, in their order.
    pub fn range(&self, bounds: impl RangeBounds<T>) -> impl Iterator<Item = &T> {
        let (one, many) = self.parts();
        let one = one.filter(|one| bounds.contains(one));
        let many: Option<btree_set::Range<'_, T>> = many.map(|many| many.range(bounds));
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn parts(&self) -> (Option<&T>, Option<&BTreeSet<T>>) {
        match self.0.as_deref() {
            None => (None, None),
            Some(Members::One(one)) => (Some(one), None),
            Some(Members::Many(many)) => (None, Some(many)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_answers_as_an_ordinary_set(edits in proptest::collection::vec((any::<bool>(), 0..4_u8), 0..30), from in 0..5_u8, to in 0..5_u8) {
            let (mut small, mut set) = (SmallSet::default(), BTreeSet::new());
            for (insert, member) in edits {
                if insert {
                    small.insert(member);
                    set.insert(member);
                } else {
                    small.remove(&member);
                    set.remove(&member);
                }
                prop_assert_eq!(small.is_empty(), set.is_empty());
                prop_assert_eq!((small.first(), small.last()), (set.first(), set.last()));
                let range = from.min(to)..to;
                prop_assert_eq!(small.range(range.clone()).collect::<Vec<_>>(), set.range(range).collect::<Vec<_>>());
            }
        }
    }
}
