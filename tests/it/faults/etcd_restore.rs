//! F24: the cluster's data are put back to what they were, and the operator is started again.

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Fault, Operation, Sim};

use crate::support::harness::{WAIT_TIMEOUT, bound};
use crate::support::leaks;
use crate::support::own_cluster::Own;
use crate::support::steps::{state, state_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_a_cluster_restored_to_before_an_id_was_written_gets_no_second_channel() {
    let mut own = Own::start().await;
    let a = own.ready("a").await;
    let hold = own.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }));
    own.create("b").await;
    own.sim.held(hold).await.unwrap();
    let backup = own.plane.back_up().await.unwrap();
    own.sim.release(hold);
    let b = own.available("b").await;
    own.rename("a", "Later").await;
    own.available("a").await;
    assert_eq!(own.sim.channel(&a).unwrap().display_name, "Later");

    leaks::dump(&own.plane).await;
    own.plane.restore(&backup).await.unwrap();
    // A watch that is ahead of the API server hears nothing: Kubernetes' own rule is to restart what watches.
    own.restart_operator();
    // What was declared then is what is declared now, and an object without its id is bound again or asks a person.
    let old = |sim: &Sim| sim.channel(&a).is_some_and(|channel| channel.display_name == "Channel a");
    own.sim.wait_until(old, WAIT_TIMEOUT * 3).await.unwrap();
    let decided = |channel: &Channel| {
        bound(channel).is_some_and(|id| id == b)
            || state_of(channel, "Stalled") == state("True", "CreateOutcomeUnknown")
    };
    own.until("b", "bound or unresolved", decided).await;
    own.available("a").await;
    assert_eq!((own.sim.count(Operation::CreateChannel), own.sim.channel_count()), (2, 2));
    own.finish().await;
}
