//! Who carries the packets of the networks' WireGuard devices.

use super::Workers;
use crate::{
    field::words,
    section::{Check, section},
};

section! {
    /// Whether the kernel or Ringway carries the packets of WireGuard devices.
    pub struct WireGuard {
        /// `auto` uses the kernel's module if there is one, otherwise Ringway's userspace device.
        backend: WireGuardBackend = "auto";
        /// Threads for all userspace devices together. `auto` is one for each core.
        threads: Workers = "auto";
        /// Whether userspace devices handle many packets at once. `auto` does if the kernel can.
        /// `off` is for a kernel or driver with a bug in it, and takes several times the processor
        /// time.
        offload: WireGuardOffload = "auto";
    }
}

impl Check for WireGuard {}

words! {
    /// Who carries the packets of new WireGuard devices.
    pub enum WireGuardBackend {
        /// The kernel's module where there is one, else Ringway itself.
        Auto = "auto",
        /// The kernel's module, or networks are degraded.
        Kernel = "kernel",
        /// Ringway itself, over a TUN device.
        Userspace = "userspace",
    }
}

words! {
    /// Whether userspace devices move many packets at once.
    pub enum WireGuardOffload {
        /// Wherever the kernel can.
        Auto = "auto",
        /// One packet at a time, always.
        Off = "off",
    }
}
