// I/O
//! Tenants who mean harm: what one namespace writes, and what it costs another.

mod fairness;
