//! The pure half of the HTTP reverse proxy: bytes and values in, bytes and values out.
//!
//! ```text
//!   bytes ─► request::read ─► Request ─► rules::Table::find ─► Rule ─► forward::write_request ─► bytes
//!   bytes ◄─ forward::write_response ◄─ Response ◄─ response::read ◄─ bytes
//!                    content: chunked::Decoder, chunked::write_size
//! ```
//!
//! Nothing here does IO, reads a clock or draws a random number: time, seeds and ids are arguments.
//! What a head means ([`request::Request`], [`response::Response`]) is apart from how HTTP/1 writes
//! it, so HTTP/2 goes through the same rules: [`decoded`] makes the same values of its heads.
//!
//! Strictness is one-sided: whatever could be understood in two ways is refused
//! ([`refusal::Refusal`]), and whatever is passed on is written anew from what was understood.
#![forbid(unsafe_code)]

pub mod answer;
pub mod balance;
pub mod chunked;
pub mod code;
pub mod date;
pub mod decoded;
pub mod edit;
pub mod facts;
pub mod field;
pub mod forward;
pub mod health;
pub mod host;
pub mod limits;
mod lines;
pub mod log;
pub mod method;
mod octet;
pub mod pages;
pub mod path;
pub mod reading;
pub mod refusal;
pub mod request;
pub mod response;
pub mod retry;
pub mod rules;
pub mod scan;
pub mod target;
pub mod trace;

pub use octet::is_token;
