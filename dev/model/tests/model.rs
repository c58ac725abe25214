//! The whole exploration, at the size that docs/contributing/model.md gives.

use ohallo_model::guards::Guard;
use ohallo_model::scenarios::{Name, Scenario};
use ohallo_model::trace::check;

#[test]
fn every_scenario_keeps_the_invariants_and_leads_to_what_it_is_for() {
    for name in Name::ALL {
        let found = check(Scenario::of(name), None, 1);
        assert_eq!(found.broken, None, "{name:?}");
        assert_eq!(found.missing, Vec::<&str>::new(), "{name:?}");
    }
}

#[test]
fn every_guard_that_is_off_breaks_what_it_is_for() {
    for &guard in Guard::ALL {
        let found = check(Scenario::of(guard.scenario()), Some(guard), 1);
        let (_, trace) = found.broken.unwrap_or_else(|| panic!("nothing breaks without {guard}"));
        assert!(trace.iter().all(|sentence| !sentence.is_empty()), "{guard}: {trace:?}");
    }
}

#[test]
fn the_document_lists_every_scenario_and_guard_as_they_are() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contributing/model.md"))
            .unwrap();
    let rows = Name::ALL.map(|name| Scenario::of(name).row()).into_iter();
    for row in rows.chain(Guard::ALL.iter().map(|guard| guard.row())) {
        assert!(document.contains(&row), "cargo run -p ohallo-model -- --tables prints it: {row}");
    }
    assert!(document.lines().count() <= 150);
}
