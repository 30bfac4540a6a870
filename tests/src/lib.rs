//! The network lab: real namespaces, real links, real TLS, and the real `ringway` in the middle.
//!
//! ```text
//!   suite binary ─► private mount, network and process namespaces ─► one Lab for each test
//!
//!   Lab:  clients ──► ringway serve ──► network-51820 ══veth══ machine (10.0.0.2, fd00::2)
//!         (lo)            (child)   └─► network-51821 ══veth══ machine (10.0.0.2, fd00::2)
//! ```
//!
//! Nothing of it is visible outside or outlives the suite, also when that is killed: the first
//! process of a process namespace takes all others with it, and mounts and links go with the
//! namespaces. Where namespaces cannot be had the suite fails; it never skips.
#![forbid(unsafe_code)]

pub mod api;
pub mod curl;
pub mod digest;
pub mod flow;
pub mod gateway;
pub mod h2;
pub mod http;
pub mod isolation;
pub mod lab;
pub mod leak;
pub mod links;
pub mod namespaces;
pub mod network;
pub mod peer;
pub mod program;
pub mod proxy;
pub mod random;
pub mod runner;
pub mod server;
pub mod stream;
pub mod tls;
pub mod tool;
pub mod underlay;
pub mod wait;
