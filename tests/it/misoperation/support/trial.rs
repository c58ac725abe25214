//! A healthy Channel, a wrong manifest, and the good one again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ohallo_sim::NewChannel;
use serde_json::{Value, json};

use crate::misoperation::mutations::Mutation;
use crate::misoperation::support::subject::{Refusal, Subject, Way, condition, is_ready, picture, settled};
use crate::support::contract::{Kept, Secrets};
use crate::support::harness::{Harness, WORKSPACE};

/// In a mutation, the placeholder for the id that the Channel is bound to.
pub const OWN_ID: &str = "id-of-this-channel";
/// The message for the one edit that can't be reverted.
const PINNED: &str = "channelId can't be changed or removed once the Channel is bound to it";
/// How many Channels are maltreated at the same time.
const AT_ONCE: usize = 16;
/// After so many failures no more are searched for.
const ENOUGH: usize = 20;

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Refused,
    /// It was accepted, and a condition reports what is wrong.
    Reported,
    /// It was taken, and oHallo has it.
    Applied,
    /// It was taken, and pins the channel for ever.
    Pinned,
}

/// A manifest's spec, and how its Channel comes into being.
#[derive(Clone)]
pub struct Base {
    pub name: &'static str,
    pub spec: Value,
    pub adopted: bool,
}

/// Channels that are maltreated, and what they live in.
pub struct Trials<'a> {
    pub harness: &'a Harness,
    pub secrets: &'a Secrets,
    created: Mutex<usize>,
}

// === impl Trials ===

impl<'a> Trials<'a> {
    pub fn new(harness: &'a Harness, secrets: &'a Secrets) -> Self {
        Self { harness, secrets, created: Mutex::default() }
    }

    /// Goes through all plans, each on a healthy Channel of its base. How many ended how; what went wrong.
    pub async fn all(&self, plans: Vec<(Base, Vec<Mutation>)>) -> (BTreeMap<End, usize>, Vec<String>) {
        let mut queues: BTreeMap<&str, VecDeque<_>> = BTreeMap::new();
        for (base, plan) in plans {
            queues.entry(base.name).or_default().push_back((base, plan));
        }
        let queues: Vec<_> = queues.into_values().map(Mutex::new).collect();
        let ends = Mutex::new(BTreeMap::new());
        let failed = Mutex::new(Vec::new());
        let workers: FuturesUnordered<_> = (0..AT_ONCE)
            .map(|worker| {
                let way = if (worker / queues.len()).is_multiple_of(2) { Way::Apply } else { Way::Replace };
                self.work(&queues[worker % queues.len()], way, &ends, &failed)
            })
            .collect();
        workers.collect::<Vec<()>>().await;
        (ends.into_inner().unwrap(), failed.into_inner().unwrap())
    }

    async fn work(
        &self,
        queue: &Mutex<VecDeque<(Base, Vec<Mutation>)>>,
        way: Way,
        ends: &Mutex<BTreeMap<End, usize>>,
        failed: &Mutex<Vec<String>>,
    ) {
        let next = || queue.lock().unwrap().pop_front();
        let mut subject = None;
        while let Some((base, plan)) = next() {
            let healthy = match subject.take() {
                Some(healthy) => healthy,
                None => self.healthy(&base, way).await,
            };
            let name = plan.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            match self.trial(&healthy, &plan).await {
                Ok(end) => {
                    *ends.lock().unwrap().entry(end).or_default() += 1;
                    subject = Some(healthy).filter(|_| end != End::Pinned);
                }
                Err(why) => {
                    let why = format!("{} {way:?} {name}: {why}", base.name);
                    eprintln!("{}", why.chars().take(400).collect::<String>());
                    let mut failed = failed.lock().unwrap();
                    failed.push(why);
                    if failed.len() >= ENOUGH {
                        return;
                    }
                }
            }
        }
    }

    /// A Channel that is Ready.
    pub async fn healthy(&self, base: &Base, way: Way) -> Subject<'a> {
        let number = {
            let mut created = self.created.lock().unwrap();
            *created += 1;
            *created
        };
        let name = format!("{}-{number}", base.name);
        let mut manifest = self.harness.manifest(&name, base.spec.clone());
        manifest["metadata"]["annotations"] = json!({"example.com/mine": "kept"});
        if base.adopted {
            let kind = base.spec["channelType"].as_str().unwrap();
            let id = self.harness.sim.insert_channel(NewChannel::new(WORKSPACE, kind, &name));
            manifest["spec"]["channelId"] = id.into();
        }
        let subject = Subject { harness: self.harness, kind: "Channel", manifest, way };
        let created = subject.bring(&subject.manifest).await.unwrap();
        let generation = &created["metadata"]["generation"];
        let ready = subject.until(|seen| settled(seen, generation) && is_ready(seen)).await;
        ready.unwrap_or_else(|last| panic!("{name} is not Ready to begin with: {last:#}"));
        subject
    }

    fn kept(&self, id: &str) -> Kept {
        Kept::of(&self.harness.sim.channel(id).unwrap_or_else(|| panic!("channel {id} is deleted")))
    }

    async fn trial(&self, subject: &Subject<'_>, plan: &[Mutation]) -> Result<End, String> {
        let before = subject.get().await;
        let id = before["status"]["channelId"].as_str().unwrap().to_owned();
        let mut wrong = subject.manifest.clone();
        for mutation in plan {
            wrong = mutation.apply(&wrong).ok_or("it can't be applied")?;
        }
        own(&mut wrong, &id);
        let kept = self.kept(&id);
        let taken = match subject.bring(&wrong).await {
            Err(refusal) => return refused(&refusal, plan).map(|()| End::Refused),
            Ok(taken) => taken,
        };
        // Of a field that is not its own, server-side apply keeps what is there.
        let arrived = |it: &Mutation| it.place.find(&taken) != it.place.find(&before);
        if plan.iter().any(|mutation| !mutation.fits && arrived(mutation)) {
            return Err(format!("it was accepted: {}", cut(&taken["spec"])));
        }
        let generation = &taken["metadata"]["generation"];
        let seen = subject.until(|seen| settled(seen, generation)).await;
        let seen = seen.map_err(|last| format!("it never settled: {}", cut(&last)))?;
        let end = if is_ready(&seen) { End::Applied } else { End::Reported };
        check_reported(&seen, &id)?;
        let spec = &taken["spec"];
        let after = if reaches(spec) { kept.after(spec, self.secrets) } else { kept.clone() };
        if (end == End::Applied || !reaches(spec)) && !self.kept(&id).is(&after) {
            return Err(format!("oHallo has {:?} instead of {after:?}", self.kept(&id)));
        }
        let tested = condition(&seen, "Connected").is_some();
        match self.corrected(subject, &before, tested, &[after, kept]).await? {
            true => Ok(end),
            false => Ok(End::Pinned),
        }
    }

    /// Brings the good manifest again, after which all must be as before. False where it can't be taken back.
    async fn corrected(
        &self,
        subject: &Subject<'_>,
        before: &Value,
        tested: bool,
        kept: &[Kept; 2],
    ) -> Result<bool, String> {
        let id = before["status"]["channelId"].as_str().unwrap();
        let good = match subject.bring(&subject.manifest).await {
            Ok(good) => good,
            Err(refusal) if refusal.message.contains(PINNED) => {
                let mut pinned = subject.manifest.clone();
                pinned["spec"]["channelId"] = id.into();
                let good = subject.bring(&pinned).await;
                return good.map(|_| false).map_err(|refusal| refusal.message);
            }
            Err(refusal) => return Err(format!("the good one was refused after it: {}", refusal.message)),
        };
        let generation = &good["metadata"]["generation"];
        let wanted = picture(before, tested);
        let same =
            |seen: &Value| settled(seen, generation) && is_ready(seen) && picture(seen, tested) == wanted;
        let last = subject.until(same).await;
        last.map_err(|last| format!("it was {wanted:#} and is {:#}", picture(&last, tested)))?;
        let good = &subject.manifest["spec"];
        let ends = kept.each_ref().map(|kept| kept.after(good, self.secrets));
        let now = self.kept(id);
        if !ends.iter().any(|end| now.is(end)) {
            return Err(format!("in the end oHallo has {now:?} instead of {:?}", ends[0]));
        }
        Ok(true)
    }
}

/// Whether such a spec may change anything in oHallo.
fn reaches(spec: &Value) -> bool {
    spec["managementPolicy"] != "Observe" && spec["suspend"] != true
}

pub fn refused(refusal: &Refusal, plan: &[Mutation]) -> Result<(), String> {
    let named = plan.iter().any(|mutation| refusal.message.contains(&mutation.place.field()));
    // Server-side apply answers a value of a wrong type with 500, and reads what it is sent as YAML.
    let typed = refusal.code == 500 && refusal.message.starts_with("failed to create typed patch object");
    let yaml = refusal.message.starts_with("error decoding YAML");
    if yaml || named && (typed || (400..500).contains(&refusal.code)) {
        return Ok(());
    }
    Err(format!("refused without a word about it: {} {}", refusal.code, refusal.message))
}

/// What is wrong is reported in sentences, and the channel is known.
fn check_reported(seen: &Value, id: &str) -> Result<(), String> {
    sentences(seen)?;
    if seen["status"]["channelId"] != id {
        return Err(format!("the id is lost: {}", seen["status"]));
    }
    Ok(())
}

pub fn sentences(seen: &Value) -> Result<(), String> {
    let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let sentence = |condition: &Value| {
        let message = condition["message"].as_str().unwrap_or_default();
        message.ends_with('.') && message.split(' ').count() > 2
    };
    if conditions.is_empty() || !conditions.iter().all(sentence) {
        return Err(format!("a condition has no sentence: {conditions:#?}"));
    }
    Ok(())
}

fn own(value: &mut Value, id: &str) {
    match value {
        Value::String(text) if text == OWN_ID => id.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| own(item, id)),
        Value::Object(fields) => fields.values_mut().for_each(|field| own(field, id)),
        _ => {}
    }
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(2000).collect()
}
