//! Ports for programs that take one by a flag.

use std::net::TcpListener;

/// Free ports of the loopback address. All are bound at once, so that they differ.
pub fn free<const N: usize>() -> [u16; N] {
    let listeners: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
