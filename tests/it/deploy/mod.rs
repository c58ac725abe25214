//! What installs the operator: the chart, the plain manifests, the shipped roles.

pub mod install;
pub mod kustomize;
pub mod manifests;
pub mod policies;
pub mod protection;
pub mod rbac;
pub mod release;
pub mod rights;
pub mod rollout;
pub mod switches;
pub mod values;
