//! The PROXY protocol: read from trusted sources, written to targets that ask for it.

/// Which form of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The text form.
    V1,
    /// The binary form, with TLVs.
    V2,
}
