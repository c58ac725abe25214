//! The verbs of on-call work. Each sets what a user would set by hand, so rights and admission stay the only gate.

mod change;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;
use kube::api::{DynamicObject, Patch, PatchParams};
use ohallo_client::clock;

use crate::cluster::{Cluster, block_on, failed, read};
use crate::failure::{Failure, SUCCESS};
use crate::global::Global;
use crate::names::targets;
use crate::output::Output;
use crate::target::Target;
use crate::verbs::change::{Change, Progress, Verb};

/// The field manager of every write.
const MANAGER: &str = "kubectl-ohallo";
/// The time between two reads while a command waits.
const POLL: Duration = Duration::from_millis(500);

/// What every verb takes.
#[derive(clap::Args)]
pub struct Common {
    /// The object: NAME or channel/NAME; for reconcile, suspend and resume also workspace/NAME, clusterworkspace/NAME
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(targets))]
    target: Target,

    /// Wait until the operator has done it
    #[arg(long)]
    wait: bool,

    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    timeout: u64,
}

/// Whether to ask.
#[derive(clap::Args)]
pub struct Confirmation {
    /// Do not ask for a confirmation
    #[arg(short, long)]
    yes: bool,
}

macro_rules! help {
    ($($example:literal),+) => {
        concat!(
            "Examples:\n", $("  kubectl ohallo ", $example, "\n"),+,
            "\nExit codes: 0 done, 1 refused by the operator or the wait ended, 2 no answer, 64 wrong usage."
        )
    };
}

/// Reconcile at once, whatever the backoff
#[derive(clap::Args)]
#[command(after_help = help!("reconcile support-email --wait", "reconcile workspace/default"))]
pub struct Reconcile {
    #[command(flatten)]
    common: Common,
}

/// Run one connectivity test. For email it sends a real email
#[derive(clap::Args)]
#[command(after_help = help!("test website-chat --wait"))]
pub struct Test {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Retry a failed provisioning
#[derive(clap::Args)]
#[command(after_help = help!("retry voice --wait"))]
pub struct Retry {
    #[command(flatten)]
    common: Common,
}

/// Make no calls for an object until it is resumed
#[derive(clap::Args)]
#[command(after_help = help!("suspend voice", "suspend workspace/default --wait"))]
pub struct Suspend {
    #[command(flatten)]
    common: Common,
}

/// End the suspension of an object
#[derive(clap::Args)]
#[command(after_help = help!("resume voice --wait"))]
pub struct Resume {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Remove a Channel whose deletion is blocked, and leave its channel in oHallo
#[derive(clap::Args)]
#[command(after_help = help!("release voice --wait", "release voice --yes"))]
pub struct Release {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Confirm that the channel of a Channel may be deleted in oHallo
#[derive(clap::Args)]
#[command(after_help = help!("confirm-deletion voice --wait", "confirm-deletion voice --despite-claims"))]
pub struct ConfirmDeletion {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
    /// Delete it although Channels of other namespaces claim it
    #[arg(long)]
    despite_claims: bool,
}

/// Confirm that an unresolved create left no channel in oHallo, and create it again
#[derive(clap::Args)]
#[command(after_help = help!("create-again support-email --wait"))]
pub struct CreateAgain {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Bind a Channel to an existing channel of oHallo
#[derive(clap::Args)]
#[command(after_help = help!("adopt support-email d4e5f6a7-b8c9-0123-def0-456789abcdef --wait"))]
pub struct Adopt {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    confirmation: Confirmation,
    /// The id of the channel in oHallo
    #[arg(value_name = "ID")]
    id: String,
}

/// One of the verbs, as the command line has it.
pub trait Command {
    fn parts(&self) -> (&Common, Verb, Option<&Confirmation>);
}

macro_rules! commands {
    ($($name:ident => $verb:expr, $confirmation:expr;)+) => {
        $(impl Command for $name {
            fn parts(&self) -> (&Common, Verb, Option<&Confirmation>) {
                let verb: fn(&Self) -> Verb = $verb;
                let confirmation: fn(&Self) -> Option<&Confirmation> = $confirmation;
                (&self.common, verb(self), confirmation(self))
            }
        })+
    };
}

commands! {
    Reconcile => |_| Verb::Reconcile, |_| None;
    Test => |_| Verb::Test, |it| Some(&it.confirmation);
    Retry => |_| Verb::Retry, |_| None;
    Suspend => |_| Verb::Suspend(true), |_| None;
    Resume => |_| Verb::Suspend(false), |it| Some(&it.confirmation);
    Release => |_| Verb::Release, |it| Some(&it.confirmation);
    ConfirmDeletion => |it| Verb::ConfirmDeletion { despite_claims: it.despite_claims }, |it| Some(&it.confirmation);
    CreateAgain => |_| Verb::CreateAgain, |it| Some(&it.confirmation);
    Adopt => |it| Verb::Adopt(it.id.clone()), |it| Some(&it.confirmation);
}

/// # Errors
/// The object does not exist, is in no state for the verb, or the API server refuses the write.
pub fn run(command: &impl Command, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let (common, verb, confirmation) = command.parts();
    block_on(async {
        let cluster = Cluster::connect(global).await?;
        let target = &common.target;
        let object = target.get(&cluster).await?;
        let change = Change::plan(&verb, target.kind, &object, clock::now()).map_err(Failure::negative)?;
        if let (Some(question), Some(Confirmation { yes: false })) = (&change.question, confirmation) {
            confirm(&format!("{target}: {question}"))?;
        }
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched =
            cluster.api(target.kind).patch(&target.name, &params, &Patch::Merge(&change.patch)).await;
        let patched = patched.map_err(|error| failed(&format!("{target} can't be changed"), &error))?;
        output.print(&format!("{target}: {}\n", change.done))?;
        if common.wait {
            wait(&cluster, target, &change, &patched, Duration::from_secs(common.timeout), output).await?;
        }
        Ok(SUCCESS)
    })
}

/// Asks on the terminal.
fn confirm(question: &str) -> Result<(), Failure> {
    let refused = || Failure::usage(format!("{question} Repeat the command with --yes to confirm"));
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(refused());
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{} Type yes to confirm: ", ohallo_core::text::escape(question));
    let read = asked.and_then(|()| stderr.flush()).and_then(|()| stdin.lock().read_line(&mut answer));
    match read {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(refused()),
    }
}

/// Reads the object until the operator has done it.
async fn wait(
    cluster: &Cluster,
    target: &Target,
    change: &Change,
    patched: &DynamicObject,
    timeout: Duration,
    output: &mut Output,
) -> Result<(), Failure> {
    let api = cluster.api(target.kind);
    let started = clock::instant();
    loop {
        let now = read(async || api.get_opt(&target.name).await).await;
        let now = now.map_err(|error| failed(&format!("{target} can't be read"), &error))?;
        match change.progress(patched, now.as_ref()) {
            Progress::Done(sentence) => return output.print(&format!("{target}: {sentence}\n")),
            Progress::Failed(sentence) => return Err(Failure::negative(format!("{target}: {sentence}"))),
            Progress::Waiting => {}
        }
        if started.elapsed() > timeout {
            let seconds = timeout.as_secs();
            return Err(Failure::negative(format!(
                "{target}: the operator has not done it within {seconds} s: see kubectl ohallo why {}",
                target.name
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}
