//! A simulator of oHallo's HTTP API: the documented API to the letter over real HTTP on 127.0.0.1, with a
//! ledger of every call, dialects where the documentation is silent, and faults that can be put in.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use ohallo_sim::{Action, Config, Fault, Key, Operation, Sim};
//!
//! let sim = Sim::start(Config::default()).await?;
//! sim.add_workspace("nordic-parts", "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "Nordic Parts");
//! sim.add_key(Key::new("sf_test_v1_example", "nordic-parts"));
//! // The next create takes effect, but its answer is lost.
//! sim.add_fault(Fault::on(Operation::CreateChannel, Action::Reset { commit: true }).times(1));
//! println!("{}", sim.url());
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! connection ─► server (may be cut at any moment) ─► routes: ledger, body, fault ─► api: one pure function
//!                                                                                    │
//!                                              store (tenants, keys, channels) ◄─────┘
//! ```

mod admin;
mod answers;
mod api;
mod behaviour;
mod clock;
mod fault;
mod ledger;
mod model;
mod provisioning;
mod routes;
mod schema;
mod server;
mod sim;
mod store;

pub use behaviour::{Behaviour, Config, ConfigUpdate, Switch};
pub use fault::{Action, Fault, FaultId};
pub use ledger::{Entry, Operation};
pub use model::{Channel, Key, NewChannel, READ, WRITE};
pub use provisioning::{Provisioning, Step, Until};
pub use server::Listening;
pub use sim::Sim;
