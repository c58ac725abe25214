//! The simulator as a program, for the demo and for a try-out in a cluster.

use std::net::Ipv4Addr;

use clap::{Parser, ValueEnum};
use ohallo_sim::{Behaviour, Config, ConfigUpdate, Key, Provisioning, Sim, Switch, Until};

/// A simulator of oHallo's HTTP API, with controls under /_admin/.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// The IPv4 address to listen on; 0.0.0.0 is every address, so that others reach it.
    #[arg(long, default_value = "127.0.0.1")]
    address: Ipv4Addr,
    /// TCP port; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// An API key with both channel scopes; may be given again.
    #[arg(long = "key", env = "OHALLO_SIM_KEY", hide_env_values = true)]
    keys: Vec<String>,
    /// Id of a workspace; may be given again.
    #[arg(long = "workspace")]
    workspaces: Vec<String>,
    /// The tenant keys and workspaces belong to.
    #[arg(long, default_value = "demo")]
    tenant: String,
    /// How long a new channel is in `provisioning`.
    #[arg(long, default_value_t = 0)]
    provisioning_millis: u64,
    /// How long a new email channel is in `pending_dns` after that.
    #[arg(long)]
    dns_millis: Option<u64>,
    /// A new email channel stays in `pending_dns` until /_admin/channels/{id}/resolve-dns is called.
    #[arg(long, conflicts_with = "dns_millis")]
    dns_until_advanced: bool,
    /// The first n runs of the workflow end in `error`.
    #[arg(long, default_value_t = 0)]
    fail_times: u32,
    /// The undocumented create: on, or the status it answers.
    #[arg(long, default_value = "on", value_parser = switch)]
    create: Switch,
    /// The undocumented list: on, or the status it answers.
    #[arg(long, default_value = "404", value_parser = switch)]
    list: Switch,
    /// What a PATCH does to config keys it does not name.
    #[arg(long, value_enum, default_value_t = Dialect::Merge)]
    config_update: Dialect,
    /// Waited before each call.
    #[arg(long, default_value_t = 0)]
    latency_millis: u64,
    /// Where the ids come from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leaves /_admin/ out.
    #[arg(long)]
    no_admin: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dialect {
    Merge,
    Replace,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let sim = Sim::start(config(&flags)).await?;
    for id in &flags.workspaces {
        sim.add_workspace(&flags.tenant, id, id);
    }
    for secret in &flags.keys {
        sim.add_key(Key::new(secret, &flags.tenant));
    }
    announce(&sim);
    stopped().await
}

fn config(flags: &Flags) -> Config {
    let mut provisioning = Provisioning::default().failing(flags.fail_times);
    if flags.provisioning_millis > 0 {
        provisioning = provisioning.step("provisioning", Until::Millis(flags.provisioning_millis));
    }
    let dns =
        if flags.dns_until_advanced { Some(Until::Advanced) } else { flags.dns_millis.map(Until::Millis) };
    if let Some(until) = dns {
        provisioning = provisioning.step("pending_dns", until);
    }
    let behaviour = Behaviour {
        create: flags.create,
        list: flags.list,
        config_update: match flags.config_update {
            Dialect::Merge => ConfigUpdate::Merge,
            Dialect::Replace => ConfigUpdate::Replace,
        },
        provisioning,
        latency_ms: flags.latency_millis,
        ..Behaviour::default()
    };
    Config {
        seed: flags.seed,
        address: flags.address,
        port: flags.port,
        admin: !flags.no_admin,
        behaviour,
        ..Config::default()
    }
}

fn switch(text: &str) -> Result<Switch, String> {
    match text {
        "on" => Ok(Switch::On),
        "404" | "405" | "501" => text.parse().map(Switch::Status).map_err(|_| text.to_owned()),
        _ => Err("one of on, 404, 405, 501".to_owned()),
    }
}

#[expect(clippy::print_stdout, reason = "who starts it reads the address here")]
fn announce(sim: &Sim) {
    println!("listening on {}", sim.url());
}

async fn stopped() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
