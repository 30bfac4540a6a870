//! The chunked transfer coding (RFC 9112 section 7.1), read strictly and written anew.
//!
//! Nothing of a sender's framing is passed on: sizes are written again, extensions are dropped,
//! and trailers are checked. Whitespace may stand before an extension (section 7.1.1), and in a
//! response also behind a size that has none: servers pad sizes that they write before they know
//! them, and every reader takes the padding for nothing. A request's is refused.

use std::ops::Range;

use crate::{field::Fields, octet, refusal::Refusal};

mod trailers;

use trailers::Trailers;

/// Most digits of a chunk's size: those of 64 bits, leading zeros counted.
pub const SIZE_DIGITS_MAX: usize = 16;

/// Longest extension of one chunk. No extension is in use; servers that read them let a sender
/// spend their time with them.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// Longest extensions of all chunks of one message together.
pub const EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

/// Longest trailers of one message.
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;

/// Most bytes that [`write_size`] appends.
pub const SIZE_BYTES_MAX: usize = SIZE_DIGITS_MAX + 2;

/// What ends a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Reads one chunked message, in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// Whitespace may come between a size and the end of its line.
    takes_padding: bool,
    at: At,
    size: u64,
    digits: usize,
    extension: usize,
    extensions: usize,
    trailers: Trailers,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    /// Whitespace behind a size.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// What a reading came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All bytes are used up, and the message goes on.
    NeedMore,
    /// Content: this range of the bytes that were given.
    Data(Range<usize>),
    /// The message is over. What was not consumed belongs to the next one.
    End,
}

impl Decoder {
    /// One for a response. The default is for a request.
    pub fn of_response() -> Self {
        Self {
            takes_padding: true,
            ..Self::default()
        }
    }

    /// Reads on, up to the next piece. Gives how many bytes were used up, data included.
    ///
    /// # Errors
    /// Says which rule the framing breaks. Where the message ends is then unknown.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Piece), Refusal> {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match self.at {
                At::Data => {
                    let rest = bytes.len() - used;
                    let len = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                    self.skip(len as u64);
                    return Ok((used + len, Piece::Data(used..used + len)));
                }
                At::Trailers => {
                    let (taken, whole) = self.trailers.take(&bytes[used..])?;
                    used += taken;
                    if whole {
                        self.at = At::End;
                    }
                }
                At::End => break,
                At::Size | At::Padding | At::Extension | At::SizeLf | At::DataCr | At::DataLf => {
                    self.step(byte)?;
                    used += 1;
                }
            }
        }
        let piece = if self.is_done() {
            Piece::End
        } else {
            Piece::NeedMore
        };
        Ok((used, piece))
    }

    /// Bytes of the current chunk's data that were not read yet. They may be moved without being
    /// looked at; [`Decoder::skip`] is told of it.
    pub fn data_left(&self) -> u64 {
        if self.at == At::Data { self.size } else { 0 }
    }

    /// Goes over data that was moved past the decoder, at most [`Decoder::data_left`] bytes.
    pub fn skip(&mut self, len: u64) {
        debug_assert!(len <= self.data_left(), "only data can be skipped");
        self.size = self.size.saturating_sub(len);
        if self.at == At::Data && self.size == 0 {
            self.at = At::DataCr;
        }
    }

    /// Whether the message is over.
    pub fn is_done(&self) -> bool {
        self.at == At::End
    }

    /// The trailers that may be passed on, as field lines; complete once the message is over.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.lines()
    }

    /// Takes one byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        self.at = match (self.at, byte) {
            (At::Size, b';') if self.digits > 0 => self.extend(0)?,
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size, b' ' | b'\t') if self.digits > 0 => self.pad()?,
            (At::Padding, b' ' | b'\t') => self.pad()?,
            (At::Padding, b';') => self.extend(0)?,
            (At::Padding, b'\r') if self.takes_padding => At::SizeLf,
            (At::Padding, _) => return Err(Refusal::ChunkSize),
            (At::Size, digit) => {
                let digit = octet::hex(digit).ok_or(Refusal::ChunkSize)?;
                self.digits += 1;
                if self.digits > SIZE_DIGITS_MAX {
                    return Err(Refusal::ChunkSize);
                }
                self.size = self.size << 4 | u64::from(digit);
                At::Size
            }
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, byte) if octet::is_value(byte) => self.extend(1)?,
            (At::Extension, _) => return Err(Refusal::ChunkExtension),
            (At::SizeLf, b'\n') => {
                (self.digits, self.extension) = (0, 0);
                match self.size {
                    0 => At::Trailers,
                    _ => At::Data,
                }
            }
            (At::SizeLf, _) => return Err(Refusal::BareCr),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::DataCr | At::DataLf, _) => return Err(Refusal::ChunkEnd),
            (at @ (At::Data | At::Trailers | At::End), _) => at,
        };
        Ok(())
    }

    /// Whitespace counts as a part of the extension that it may precede.
    fn pad(&mut self) -> Result<At, Refusal> {
        self.extend(1).map(|_| At::Padding)
    }

    fn extend(&mut self, len: usize) -> Result<At, Refusal> {
        self.extension += len;
        self.extensions += len;
        if self.extension > EXTENSION_BYTES_MAX || self.extensions > EXTENSIONS_BYTES_MAX {
            return Err(Refusal::ChunkExtension);
        }
        Ok(At::Extension)
    }
}

/// Appends the line in front of a chunk's data. The data follows, and then [`CHUNK_END`]. A chunk
/// of no bytes would end the message: for 0 nothing is appended.
pub fn write_size(len: u64, out: &mut Vec<u8>) {
    if len == 0 {
        return;
    }
    let digits = (u64::BITS - len.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = usize::try_from(len >> (place * 4) & 0xf).unwrap_or(0);
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a message, with trailers as field lines: those of [`Decoder::trailers`].
pub fn write_end(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field may come behind the content, in HTTP/1 and in HTTP/2.
pub fn is_trailer(name: &[u8]) -> bool {
    trailers::is_allowed(name)
}

/// The fields of trailers: those of [`Decoder::trailers`].
pub fn trailer_fields(trailers: &[u8]) -> Fields<'_> {
    Fields::checked(trailers)
}

#[cfg(test)]
mod tests;
