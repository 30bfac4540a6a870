//! How much of a head is read before it is refused.

/// Most fields that [`Limits::fields_max`] can ask for: the places on the reader's stack.
pub const FIELDS_MAX: usize = 256;

/// Longest method. The longest registered one has 17 bytes (`UPDATEREDIRECTREF`).
pub const METHOD_BYTES_MAX: usize = 32;

/// Most options that Connection has in one head. Each of them is compared with each field's name.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// The bounds of one head, request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte to the end of the empty line.
    pub head_bytes_max: usize,
    /// Of the request target.
    pub target_bytes_max: usize,
    /// Of field lines; more than [`FIELDS_MAX`] counts as that.
    pub fields_max: usize,
}

impl Default for Limits {
    /// Twice what servers allow by default, so that a gateway is not the part that refuses.
    fn default() -> Self {
        Self {
            head_bytes_max: 64 * 1024,
            target_bytes_max: 8 * 1024,
            fields_max: 128,
        }
    }
}

impl Limits {
    /// Longest request line without its CR LF: method, target, version and two spaces.
    pub(crate) fn line_bytes_max(&self) -> usize {
        METHOD_BYTES_MAX + self.target_bytes_max + " HTTP/1.1 ".len()
    }

    pub(crate) fn fields_bound(&self) -> usize {
        self.fields_max.min(FIELDS_MAX)
    }
}
