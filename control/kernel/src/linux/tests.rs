//! Real namespaces, devices and packets: every test has a host namespace and a directory of names
//! of its own.
//!
//! With `LAB_WIREGUARD_MODULE=required` in the environment every test runs on the kernel's WireGuard
//! as well as in userspace, and fails where there is no module. Without it, userspace alone is
//! tested.

mod converge;
mod drift;
mod lab;
mod packets;
mod refuse;
mod scale;
