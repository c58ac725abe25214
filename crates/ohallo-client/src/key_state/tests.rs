use super::*;
use ohallo_core::secret::ApiKey;

fn key(name: &str) -> KeyId {
    ApiKey::new(name.to_owned()).id()
}

fn workspace(name: &str) -> WorkspaceKey {
    WorkspaceKey { namespace: Some("a".into()), name: name.into() }
}

fn claimant() -> Claimant {
    Claimant { namespace: Some("a".into()), running: false }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many calls are admitted at this time.
fn calls(keys: &Keys, id: KeyId, of: &WorkspaceKey, now: Instant) -> usize {
    let rates = keys.get(id, of, now);
    (0..1000).take_while(|_| keys.take(&rates, &claimant(), 1, now).is_ok()).count()
}

#[test]
fn f57_keys_that_are_rotated_for_ever_leave_nothing_and_bring_no_fresh_burst() {
    let (keys, start, of) = (Keys::new(10.0, 20, 100.0), clock::instant(), workspace("default"));
    let (mut most, mut sent) = (0, 0);
    // One day, with a new key every five seconds.
    for number in 0..17_280_u64 {
        let now = start + s(5 * number);
        sent += calls(&keys, key(&format!("k{number}")), &of, now);
        // Only the newest remain: a rotated key whose calls were answered is kept for 30 s.
        keys.get(key(&format!("k{number}")), &of, now).key.answered_well(now);
        most = most.max(keys.len().0);
    }
    assert!(most <= 10, "{most} keys at once");
    assert!(sent <= 20 + 10 * 86_400, "{sent} calls in a day");
    keys.get(key("last"), &of, start + s(90_000));
    assert_eq!(keys.len(), (1, 1));
}

#[test]
fn a_rotated_key_has_the_tokens_that_its_workspace_has_left() {
    let (keys, now, of) = (Keys::new(10.0, 20, 0.0), clock::instant(), workspace("default"));
    assert_eq!(calls(&keys, key("first"), &of, now), 20);
    for number in 0..1_000 {
        assert_eq!(calls(&keys, key(&number.to_string()), &of, now), 0);
    }
    assert_eq!(calls(&keys, key("other"), &workspace("other"), now), 20);
    assert_eq!(calls(&keys, key("last"), &of, now + Duration::from_millis(501)), 5);
}

#[test]
fn f57_key_checks_of_a_workspace_are_few_however_often_it_changes() {
    let (keys, start, of) = (Keys::new(0.0, 20, 0.0), clock::instant(), workspace("default"));
    let checks =
        (0..36_000).filter(|tenth| keys.check(&of, start + Duration::from_millis(100 * tenth)).is_ok());
    let checks = checks.count();
    assert!((1_195..=1_206).contains(&checks), "{checks} in an hour");
    keys.check(&workspace("other"), start + s(3_600)).unwrap();
    assert_eq!(keys.len().1, 2);
    keys.get(key("k"), &workspace("third"), start + s(3_700));
    assert_eq!(keys.len(), (1, 1), "what has recovered is dropped");
}

#[test]
fn the_rate_of_all_keys_is_a_ceiling_and_is_reported() {
    let (keys, now) = (Keys::new(10.0, 20, 25.0), clock::instant());
    let sent: usize = (0..10)
        .map(|number| calls(&keys, key(&number.to_string()), &workspace(&number.to_string()), now))
        .sum();
    assert_eq!(sent, 25);
    let rates = keys.get(key("late"), &workspace("late"), now);
    assert!(matches!(keys.take(&rates, &claimant(), 1, now), Err(Wait::All(_))));
    let paused = keys.get(key("paused"), &workspace("paused"), now);
    paused.key.pause(now + s(60));
    assert!(matches!(keys.take(&paused, &claimant(), 1, now + s(1)), Err(Wait::Key(_))));
    let none = Keys::new(0.0, 20, 0.0);
    assert_eq!(calls(&none, key("k"), &workspace("w"), now), 1000);
}

#[test]
fn a_refusal_by_one_rate_takes_no_tokens_from_the_others() {
    let (keys, now, of) = (Keys::new(1.0, 1, 1.0), clock::instant(), workspace("default"));
    let rates = keys.get(key("k"), &of, now);
    keys.take(&rates, &claimant(), 1, now).unwrap();
    for _ in 0..10 {
        keys.take(&rates, &claimant(), 1, now).unwrap_err();
    }
    keys.take(&rates, &claimant(), 1, now + Duration::from_millis(1_001)).unwrap();
    keys.refund(&rates, &claimant().namespace, 1);
    keys.take(&rates, &claimant(), 1, now + Duration::from_millis(1_001)).unwrap();
}

#[test]
fn the_state_from_a_key_s_responses_is_kept_while_it_matters() {
    let (keys, start, of) = (Keys::new(10.0, 20, 0.0), clock::instant(), workspace("default"));
    let kept = |later: u64, put: fn(&KeyState, Instant)| {
        let keys = Keys::new(10.0, 20, 0.0);
        put(&keys.get(key("k"), &of, start).key, start);
        keys.get(key("other"), &of, start + s(later));
        keys.len().0 == 2
    };
    let unsettled = |state: &KeyState, _: Instant| lock(&state.standing).ambiguous = Some(clock::instant());
    assert!(!kept(11, |_, _| {}), "nothing to remember");
    assert!(kept(29, KeyState::answered_well) && !kept(42, KeyState::answered_well));
    assert!(
        kept(60, |state, now| state.pause(now + s(100)))
            && !kept(120, |state, now| state.pause(now + s(100)))
    );
    assert!(kept(599, unsettled) && !kept(700, unsettled));
    let used = keys.get(key("k"), &of, start);
    keys.get(key("other"), &of, start + s(90_000));
    assert_eq!(keys.len().0, 2, "a session uses it");
    drop(used);
}
