//! The main job.

use ohallo_sim::Operation;
use serde_json::json;

use crate::rig::{Rig, id_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_a_channel_with_two_writes_and_one_call_and_deletes_it_with_one_each() {
    let rig = Rig::start().await;
    let channel = rig.ready("a", json!({"config": {"greeting": "hello"}})).await;
    let remote = rig.sim.channel(&id_of(&channel)).unwrap();
    assert_eq!(remote.display_name, "Channel a");
    assert_eq!(rig.count(Operation::CreateChannel), 1);
    assert_eq!(rig.count(Operation::GetChannel), 0);
    rig.eventually("two writes", || async { (rig.writes_of("a").len() >= 2).then_some(()) }).await;
    assert_eq!(rig.writes_of("a"), ["patch channels a 200", "update channels/status a 200"]);
    rig.deleted("a").await;
    assert!(rig.sim.channels().is_empty());
    assert_eq!(rig.count(Operation::DeleteChannel), 1);
    rig.eventually("three writes", || async { (rig.writes_of("a").len() >= 3).then_some(()) }).await;
    assert_eq!(rig.writes_of("a").len(), 3);
    rig.event("a", "Created").await;
    rig.event("a", "Deleted").await;
    rig.finish().await;
}
