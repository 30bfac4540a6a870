//! Many packets at once: what crosses the border to the kernel's network stack is up to 64 KiB of one
//! flow under a single header, and is cut into packets, or put together from them, here.
//!
//! ```text
//!   a tenant's link ─► header, super-packet ─► split ─► packets ─► sealed one by one
//!   a tenant's link ◄─ header, super-packet ◄─ merge ◄─ packets ◄─ opened one by one
//! ```
//!
//! It is what a network card with segmentation offload does (`skb_segment` and `tcp4_gro_receive` in
//! the kernel), in the forms that `struct virtio_net_hdr` can say (virtio 1.2, section 5.1.6): TCP
//! and UDP, over IPv4 and IPv6. All of it is pure: bytes in, bytes out.
//!
//! Invariants: what comes out of merging and splitting again is, byte for byte, what went in, but for
//! the identification of IPv4 packets that may not be fragmented, which has no meaning (RFC 6864,
//! section 4.1); within a flow nothing overtakes; no bytes make any of it panic.

pub(crate) use self::{
    merge::{Kinds, Merge, PACKETS_MAX, Super},
    split::Packets,
    virtio::{HEADER_BYTES, Kind},
};

mod headers;
mod merge;
mod split;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod trial;
mod virtio;

/// Room that has to follow a super-packet, for the padding of its last packet.
pub(crate) const PADDING_ROOM: usize = 16;
