//! The bounds of a session.

/// Longest plaintext of a record (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 1 << 14;
/// Longest record on the wire: TLS 1.2 lets protection add 2048 bytes (RFC 5246 section 6.2.3).
pub const RECORD_WIRE_BYTES_MAX: usize = 5 + RECORD_BYTES_MAX + 2048;
/// Most bytes that a peer may send before its handshake is done, however slowly they come. A chain
/// of ten RSA-4096 client certificates is about 20 KiB.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Most plaintext that one `Session::send` takes: four records.
pub const SEND_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
/// Most ciphertext that is queued: what one `Session::send` may leave, and the protocol's own
/// answers (key updates, alerts). Who writes much and reads nothing can still be read from.
pub const QUEUED_BYTES_MAX: usize = SEND_BYTES_MAX + 4096;
