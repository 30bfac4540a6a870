use engine_http::{
    chunked::{CHUNK_END, Decoder, Piece, write_end, write_size},
    refusal::Refusal,
};

use crate::Input;

/// Content as it was read, or why it was not.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    NeedMore,
    Whole {
        data: Vec<u8>,
        trailers: Vec<u8>,
        used: usize,
    },
    Refused(Refusal),
}

/// Reads `input` as chunked content, and frames it anew.
///
/// # Panics
/// Where content or verdict depend on how the bytes are cut; where a plain reader takes other
/// content from them; where what is framed anew is other content.
pub fn chunked(input: &[u8]) {
    let input = Input::parse(input);
    let strict = decode(Decoder::default(), input.bytes, [input.bytes.len()]);
    let whole = decode(Decoder::of_response(), input.bytes, [input.bytes.len()]);
    if !matches!(strict, Outcome::Refused(_)) {
        assert_eq!(
            strict, whole,
            "a response's reader takes a request for something else"
        );
    }
    for (decoder, at_once) in [
        (Decoder::default(), &strict),
        (Decoder::of_response(), &whole),
    ] {
        let ends: Vec<usize> = input.segment_ends().collect();
        assert_eq!(&decode(decoder, input.bytes, ends), at_once);
    }
    let Outcome::Whole {
        data,
        trailers,
        used,
    } = whole
    else {
        return;
    };
    let (plain, plain_used) = decode_plainly(&input.bytes[..used]);
    assert_eq!(
        (&plain, plain_used),
        (&data, used),
        "a plain reader sees other content"
    );

    let mut framed = Vec::new();
    let mut rest = data.as_slice();
    for len in input.lens() {
        let (piece, after) = rest.split_at(len.min(rest.len()));
        if piece.is_empty() {
            break;
        }
        write_size(piece.len() as u64, &mut framed);
        framed.extend_from_slice(piece);
        framed.extend_from_slice(CHUNK_END);
        rest = after;
    }
    write_end(&trailers, &mut framed);
    let used = framed.len();
    let again = decode(Decoder::default(), &framed, [used]);
    let same = Outcome::Whole {
        data,
        trailers,
        used,
    };
    assert_eq!(again, same, "framed anew it is other content");
}

/// Decodes what comes in segments that end there.
fn decode(mut decoder: Decoder, bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Outcome {
    let mut data = Vec::new();
    let mut used = 0;
    for end in ends {
        while used < end {
            let segment = &bytes[used..end];
            let (read, piece) = match decoder.read(segment) {
                Ok(read) => read,
                Err(refusal) => return Outcome::Refused(refusal),
            };
            assert!(read <= segment.len());
            match piece {
                Piece::Data(range) => {
                    assert!(range.end <= read && !range.is_empty());
                    data.extend_from_slice(&segment[range]);
                }
                Piece::NeedMore => assert_eq!(read, segment.len(), "bytes are left"),
                Piece::End => {
                    let trailers = decoder.trailers().to_vec();
                    let used = used + read;
                    return Outcome::Whole {
                        data,
                        trailers,
                        used,
                    };
                }
            }
            used += read;
        }
    }
    assert!(!decoder.is_done());
    Outcome::NeedMore
}

/// The content of what is well framed, and how long that is, found by searching for line ends.
fn decode_plainly(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut data = Vec::new();
    let mut at = 0;
    let line = |at: usize| {
        let end = bytes[at..].windows(2).position(|two| two == b"\r\n");
        let end = at + end.unwrap_or_else(|| panic!("no line's end after {at}"));
        (&bytes[at..end], end + 2)
    };
    loop {
        let (size, after) = line(at);
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        let digits = digits.trim_end_matches([' ', '\t']);
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?}"));
        if size == 0 {
            at = after;
            break;
        }
        data.extend_from_slice(&bytes[after..after + size]);
        assert_eq!(bytes[after + size..][..2], *b"\r\n");
        at = after + size + 2;
    }
    loop {
        let (trailer, after) = line(at);
        at = after;
        if trailer.is_empty() {
            return (data, at);
        }
    }
}
