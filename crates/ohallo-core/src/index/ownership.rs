//! The owner and the claimants of each oHallo id, and which of them can act after a change. Each query is a lookup in an
//! ordered set, never a scan over the Channels that name the id.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::index::NamespacedName;
use crate::small_set::SmallSet;

/// The maximum number of claimants in a message or a log line.
pub const MAX_NAMED: usize = 3;

/// The order of Channels that have the same right to an id: a living one first, then the older.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub terminating: bool,
    pub created: Option<Time>,
    pub uid: Arc<str>,
    pub name: Arc<NamespacedName>,
}

/// The relation of one Channel to one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stake {
    /// The Channel is bound to the id (`status.channelId` and `status.boundUid`).
    Bound,
    /// A living Channel names the id, in its spec or in a copied status.
    Named {
        /// A read for this Channel returned the id.
        right: bool,
        /// Its last read returned the id with the declared type and workspace, and it would adopt the id now.
        able: bool,
    },
}

/// Why an id is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A create returned the id.
    Create,
    /// The adoption of the id is in progress.
    Adopt,
    /// A DELETE of the id is in flight.
    Delete,
}

/// Other Channels related to the id of a Channel that is being deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rivals {
    /// A living Channel is bound to the id.
    pub heir: Option<NamespacedName>,
    /// Another terminating Channel is bound to the id and ranks before this one.
    pub outranked: bool,
    /// Living Channels of the same namespace that name the id, the oldest first; at most [`MAX_NAMED`].
    pub beside: Vec<NamespacedName>,
    /// More Channels name the id than are listed.
    pub more: bool,
    pub elsewhere: Elsewhere,
}

/// Claims from other namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elsewhere {
    /// No Channel of another namespace names the id.
    #[default]
    Nobody,
    /// A Channel of another namespace names the id, and no read for it has returned the id.
    Named,
    /// A read for a Channel of another namespace returned the id.
    Shown,
}

/// The Channel that owns an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: NamespacedName,
    pub uid: String,
}

/// The Channels of one id.
#[derive(Debug, Default)]
struct Holders {
    bound: SmallSet<Rank>,
    able: SmallSet<Rank>,
    /// The same, by namespace.
    able_in: SmallSet<(String, Rank)>,
    named: SmallSet<(String, Rank)>,
    rights: SmallSet<(String, Rank)>,
}

#[derive(Debug)]
struct Reserved {
    holder: Holder,
    why: Claim,
}

/// What a Channel can do with an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It owns the id.
    Hold,
    /// It can take the id over from a terminating Channel of its namespace.
    Inherit,
    /// It is terminating: it deletes or hands over its channel, or waits for these rivals.
    Leave(Rivals),
}

/// The Channels that can act on an id.
pub type Actors = BTreeMap<NamespacedName, Act>;

#[derive(Debug, Default)]
pub struct Ids {
    of: HashMap<Arc<str>, Holders>,
    claims: HashMap<String, Reserved>,
    claimed_by: HashMap<String, BTreeSet<String>>,
}

// === impl Rank ===

impl Rank {
    fn named(&self) -> NamespacedName {
        NamespacedName::clone(&self.name)
    }

    fn least(terminating: bool) -> Self {
        Self { terminating, created: None, uid: Arc::default(), name: Arc::new(NamespacedName::new("", "")) }
    }
}

// === impl Ids ===

impl Ids {
    pub fn add(&mut self, id: &Arc<str>, rank: &Rank, stake: Stake) {
        let of = self.of.entry(Arc::clone(id)).or_default();
        let in_namespace = || (rank.name.namespace.clone(), rank.clone());
        match stake {
            Stake::Bound => of.bound.insert(rank.clone()),
            Stake::Named { right, able } => {
                of.named.insert(in_namespace());
                if right {
                    of.rights.insert(in_namespace());
                }
                if able {
                    of.able.insert(rank.clone());
                    of.able_in.insert(in_namespace());
                }
            }
        }
    }

    pub fn drop(&mut self, id: &str, rank: &Rank) {
        let Some(of) = self.of.get_mut(id) else { return };
        let in_namespace = (rank.name.namespace.clone(), rank.clone());
        of.bound.remove(rank);
        of.able.remove(rank);
        of.able_in.remove(&in_namespace);
        of.named.remove(&in_namespace);
        of.rights.remove(&in_namespace);
        if of.bound.is_empty() && of.named.is_empty() {
            self.of.remove(id);
        }
    }

    /// Reserves an id; `false` where another object has reserved it.
    pub fn claim(&mut self, id: &str, name: &NamespacedName, uid: &str, why: Claim) -> bool {
        if let Some(reserved) = self.claims.get(id) {
            return reserved.holder.uid == uid;
        }
        let holder = Holder { name: name.clone(), uid: uid.to_owned() };
        self.claims.insert(id.to_owned(), Reserved { holder, why });
        self.claimed_by.entry(uid.to_owned()).or_default().insert(id.to_owned());
        true
    }

    /// The ids that this object has reserved, and why.
    pub fn claimed(&self, uid: &str) -> Vec<(String, Claim)> {
        let ids = self.claimed_by.get(uid).into_iter().flatten();
        ids.filter_map(|id| Some((id.clone(), self.claims.get(id)?.why))).collect()
    }

    pub fn unclaim(&mut self, id: &str, uid: &str) {
        if self.claims.get(id).is_some_and(|reserved| reserved.holder.uid == uid) {
            self.claims.remove(id);
        }
        if let Some(ids) = self.claimed_by.get_mut(uid) {
            ids.remove(id);
            if ids.is_empty() {
                self.claimed_by.remove(uid);
            }
        }
    }

    /// The Channel that owns the id: the bound one, else the one that has reserved it, else the oldest that would adopt it
    /// now.
    pub fn holder(&self, id: &str) -> Option<Holder> {
        let of = self.of.get(id);
        let ranked = |rank: &Rank| Holder { name: rank.named(), uid: (*rank.uid).into() };
        let bound = of.and_then(|of| of.bound.first()).map(ranked);
        let claimed = || self.claims.get(id).map(|reserved| reserved.holder.clone());
        bound.or_else(claimed).or_else(|| of?.able.first().map(ranked))
    }

    /// The terminating Channel of the same namespace that this one takes the id over from: it is the oldest there that
    /// would adopt the id now.
    pub fn takes_over(&self, id: &str, me: &NamespacedName) -> Option<NamespacedName> {
        let of = self.of.get(id)?;
        let holder =
            of.bound.first().filter(|rank| rank.terminating && rank.name.namespace == me.namespace)?;
        (self.heir_in(id, of, &me.namespace)? == me).then(|| holder.named())
    }

    /// The oldest Channel of this namespace that would adopt the id now, if no other Channel has reserved it.
    fn heir_in<'a>(&self, id: &str, of: &'a Holders, namespace: &str) -> Option<&'a NamespacedName> {
        let heir = in_namespace(&of.able_in, namespace).next()?;
        let reserved = self.claims.get(id).is_some_and(|reserved| *reserved.holder.uid != *heir.uid);
        (!reserved).then_some(&heir.name)
    }

    /// What blocks a terminating Channel that is bound to the id from deleting it.
    pub fn rivals(&self, id: &str, me: &NamespacedName) -> Rivals {
        let Some(of) = self.of.get(id) else { return Rivals::default() };
        let living = of.bound.first().filter(|rank| !rank.terminating && *rank.name != *me);
        let leaving = of.bound.range(Rank::least(true)..).next();
        let mut beside = in_namespace(&of.named, &me.namespace).filter(|rank| *rank.name != *me);
        let first: Vec<_> = beside.by_ref().take(MAX_NAMED).map(Rank::named).collect();
        let elsewhere = match (outside(&of.rights, &me.namespace), outside(&of.named, &me.namespace)) {
            (true, _) => Elsewhere::Shown,
            (false, true) => Elsewhere::Named,
            (false, false) => Elsewhere::Nobody,
        };
        Rivals {
            heir: living.map(Rank::named),
            outranked: leaving.is_some_and(|rank| *rank.name != *me),
            more: beside.next().is_some(),
            beside: first,
            elsewhere,
        }
    }

    /// Channels of other namespaces whose reads returned the id; at most [`MAX_NAMED`].
    pub fn claimants_elsewhere(&self, id: &str, namespace: &str) -> Vec<NamespacedName> {
        let Some(of) = self.of.get(id) else { return Vec::new() };
        let before = of.rights.range(..(namespace.to_owned(), Rank::least(false)));
        let after = of.rights.range((after_namespace(namespace), Bound::Unbounded));
        before.chain(after).take(MAX_NAMED).map(|(_, rank)| rank.named()).collect()
    }

    /// The other namespaces that claim the id of the terminating Channel `me`, at most `max`.
    pub fn claimant_namespaces(&self, id: &str, me: &NamespacedName, max: usize) -> Vec<String> {
        let Some(of) = self.of.get(id) else { return Vec::new() };
        let mut found = Vec::new();
        if in_namespace(&of.named, &me.namespace).any(|rank| *rank.name != *me) {
            found.push(me.namespace.clone());
        }
        let mut from = Bound::Unbounded;
        while found.len() < max
            && let Some((namespace, _)) = of.rights.range((from, Bound::Unbounded)).next()
        {
            if *namespace != me.namespace {
                found.push(namespace.clone());
            }
            from = after_namespace(namespace);
        }
        found
    }

    /// The Channels that can act on the id now. All others that name it wait.
    pub fn actors(&self, id: &str) -> Actors {
        let mut actors = Actors::new();
        let Some(of) = self.of.get(id) else { return actors };
        let first = of.bound.first();
        if let Some(leaving) = of.bound.range(Rank::least(true)..).next() {
            actors.insert(leaving.named(), Act::Leave(self.rivals(id, &leaving.name)));
            if first == Some(leaving)
                && let Some(heir) = self.heir_in(id, of, &leaving.name.namespace)
            {
                actors.insert(heir.clone(), Act::Inherit);
            }
        }
        match first {
            Some(first) => drop(actors.entry(first.named()).or_insert(Act::Hold)),
            None if self.claims.contains_key(id) => {}
            None => actors.extend(of.able.first().map(|rank| (rank.named(), Act::Hold))),
        }
        actors
    }
}

fn in_namespace<'a>(
    set: &'a SmallSet<(String, Rank)>,
    namespace: &str,
) -> impl Iterator<Item = &'a Rank> + use<'a> {
    let from = (namespace.to_owned(), Rank::least(false));
    let namespace = namespace.to_owned();
    set.range(from..).take_while(move |(of, _)| *of == namespace).map(|(_, rank)| rank)
}

/// Whether the set has a member in another namespace. It is ordered by namespace.
fn outside(set: &SmallSet<(String, Rank)>, namespace: &str) -> bool {
    [set.first(), set.last()].into_iter().flatten().any(|(of, _)| of != namespace)
}

fn after_namespace(namespace: &str) -> Bound<(String, Rank)> {
    // No namespace's name contains this character.
    Bound::Included((format!("{namespace}\0"), Rank::least(false)))
}
