//! Runs one check and says what it found.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use crate::guards::Guard;
use crate::model::Protocol;
use crate::scenarios::Scenario;

/// What a check came to.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub took: Duration,
    /// An invariant that was broken, and the way there, one sentence an action.
    pub broken: Option<(&'static str, Vec<String>)>,
    /// What should have happened and did not.
    pub missing: Vec<&'static str>,
}

/// Explores a scenario, with a guard off or none. With one off it ends at the first counterexample.
pub fn check(scenario: Scenario, off: Option<Guard>, threads: usize) -> Found {
    let began = crate::clock::instant();
    let model = Protocol { scenario, off };
    let wanted = off.map(|off| off.breaks().says());
    let until = wanted.map_or(HasDiscoveries::AnyFailures, |says| HasDiscoveries::AnyOf([says].into()));
    let builder = model.clone().checker().threads(threads).finish_when(until);
    let checker = builder.spawn_bfs().join();
    let discoveries = checker.discoveries();
    let properties = model.properties();
    let (always, sometimes): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|property| property.expectation.discovery_is_failure());
    let judged = |property: &&stateright::Property<_>| wanted.is_none_or(|says| property.name == says);
    let broken = always.iter().filter(judged).find_map(|property| {
        let path = discoveries.get(property.name)?.clone();
        Some((property.name, sentences(&model, path.into_vec())))
    });
    let missing =
        sometimes.iter().map(|property| property.name).filter(|name| !discoveries.contains_key(name));
    Found {
        states: checker.unique_state_count(),
        took: crate::clock::instant().duration_since(began),
        missing: if broken.is_some() { Vec::new() } else { missing.collect() },
        broken,
    }
}

fn sentences(
    model: &Protocol,
    path: Vec<(crate::state::State, Option<crate::model::Action>)>,
) -> Vec<String> {
    let mut said = Vec::new();
    for (state, action) in path {
        let Some(action) = action else { continue };
        let mut sentence = Vec::new();
        model.apply(&state, action, &mut |text| sentence.push(text.to_string()));
        said.push(sentence.join("; "));
    }
    said
}
