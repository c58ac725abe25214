//! `validate` over 20,000 documents, beside kubeconform on the same files. A measurement: nothing else should run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::Profile;

const DOCUMENTS: usize = 20_000;
/// Documents of one file.
const EACH: usize = 100;
const ROUNDS: usize = 5;
/// The most memory that `validate` may take.
const MAX_MIB: u64 = 200;

struct Used {
    time: Duration,
    /// The most memory that it had.
    mib: u64,
}

fn write_documents(folder: &Path) {
    for file in 0..DOCUMENTS / EACH {
        let one = |number: usize| {
            format!(
                "---\napiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {{name: c-{file}-{number}, namespace: team}}\nspec: {{channelType: email, displayName: Number {number}, config: {{fromName: A, replyTo: a@example.com}}}}\n"
            )
        };
        let text: String = (0..EACH).map(one).collect();
        std::fs::write(folder.join(format!("{file}.yaml")), text).unwrap();
    }
}

fn measured(mut command: Command) -> Used {
    let started = ohallo_client::clock::instant();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut mib = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok());
        mib = mib.max(peak.unwrap_or(0_u64) / 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "{command:?}: {ended}");
    Used { time: started.elapsed(), mib }
}

#[test]
#[ignore = "builds the release and measures: .ci/full scale"]
fn twenty_thousand_documents_take_no_longer_than_with_kubeconform() {
    let folder = tempfile::tempdir().unwrap();
    write_documents(folder.path());
    let program = testbed::program("kubectl-ohallo", Profile::Release).unwrap();
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/schemas");
    let location = format!("{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json");
    let kubeconform = testbed::tool("kubeconform").unwrap();
    let ours = || {
        let mut command = Command::new(&program);
        command.arg("validate").arg(folder.path());
        measured(command)
    };
    let theirs = || {
        let mut command = Command::new(&kubeconform);
        command.args(["-schema-location", &location]).arg(folder.path());
        measured(command)
    };
    // In turn, so that both have the same machine.
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (ours(), theirs())).unzip();
    let best = |all: &[Used]| all.iter().map(|used| used.time).min().unwrap();
    let most = |all: &[Used]| all.iter().map(|used| used.mib).max().unwrap();
    println!(
        "{DOCUMENTS} documents: validate {:?} and {} MiB, kubeconform {:?} and {} MiB",
        best(&ours),
        most(&ours),
        best(&theirs),
        most(&theirs)
    );
    assert!(best(&ours) <= best(&theirs), "{:?} {:?}", best(&ours), best(&theirs));
    assert!(most(&ours) <= MAX_MIB, "{} MiB", most(&ours));
}
