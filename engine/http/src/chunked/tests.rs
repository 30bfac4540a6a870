use proptest::prelude::*;

use super::*;

/// Everything that a message of these bytes holds: content, trailers, and bytes left over.
fn decode(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Refusal> {
    decode_by(Decoder::default(), bytes, cut)
}

fn decode_by(
    mut decoder: Decoder,
    bytes: &[u8],
    cut: usize,
) -> Result<(Vec<u8>, Vec<u8>, usize), Refusal> {
    let mut content = Vec::new();
    let (mut at, mut end) = (0, cut.min(bytes.len()));
    loop {
        let given = &bytes[at..end];
        let (used, piece) = decoder.read(given)?;
        at += used;
        match piece {
            Piece::Data(range) => content.extend_from_slice(&given[range]),
            Piece::End => break,
            Piece::NeedMore => {
                assert_eq!(at, end, "all bytes are used up");
                assert!(end < bytes.len(), "the message does not end");
                end = (end + cut).min(bytes.len());
            }
        }
    }
    assert!(decoder.is_done());
    Ok((content, decoder.trailers().to_vec(), bytes.len() - at))
}

#[test]
fn a_message_is_the_same_however_it_is_cut() {
    let message = b"4\r\nWiki\r\n005;a=b;c=\"d e\"\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0;x\r\n\
                    X-Sum: 1\r\nContent-Length: 3\r\nGrpc-Status: 0\r\n\r\nGET /next";
    for cut in 1..=message.len() {
        let (content, trailers, left) = decode(message, cut).unwrap();
        assert_eq!(content, b"Wikipedia in\r\n\r\nchunks.", "{cut}");
        assert_eq!(trailers, b"X-Sum: 1\r\nGrpc-Status: 0\r\n", "{cut}");
        assert_eq!(left, "GET /next".len(), "{cut}");
    }
}

#[test]
fn whitespace_may_stand_before_an_extension_and_in_a_response_pad_a_size() {
    let extended = b"3 \t;x=y\r\nabc\r\n0 ; x\r\n\r\n";
    let padded = b"3  \t\r\nabc\r\n0 \r\n\r\n";
    for cut in 1..=extended.len() {
        for decoder in [Decoder::default(), Decoder::of_response()] {
            assert_eq!(decode_by(decoder, extended, cut).unwrap().0, b"abc");
        }
        let response = decode_by(Decoder::of_response(), padded, cut);
        assert_eq!(response.unwrap().0, b"abc");
        assert_eq!(decode(padded, cut), Err(Refusal::ChunkSize));
    }
    for strange in ["3 x\r\n", "3 3\r\n", "3 \n", "3\0\r\n"] {
        let read = Decoder::of_response().read(strange.as_bytes());
        assert_eq!(read, Err(Refusal::ChunkSize), "{strange:?}");
    }
    let long = format!("3{}\r\n", " ".repeat(EXTENSION_BYTES_MAX + 1));
    let read = Decoder::of_response().read(long.as_bytes());
    assert_eq!(read, Err(Refusal::ChunkExtension));
}

#[test]
fn framing_with_another_reading_is_refused() {
    let long = |prefix: &str, len: usize| format!("{prefix}{}\r\n", "x".repeat(len));
    for (message, expected) in [
        ("\r\n", Refusal::ChunkSize),
        ("g\r\n", Refusal::ChunkSize),
        ("0x3\r\nabc\r\n", Refusal::ChunkSize),
        ("+3\r\nabc\r\n", Refusal::ChunkSize),
        ("-3\r\nabc\r\n", Refusal::ChunkSize),
        (" 3\r\nabc\r\n", Refusal::ChunkSize),
        ("3 \r\nabc\r\n", Refusal::ChunkSize),
        ("3 x\r\nabc\r\n", Refusal::ChunkSize),
        ("3 3\r\nabc\r\n", Refusal::ChunkSize),
        ("3 \nabc\r\n", Refusal::ChunkSize),
        ("3\t\r\nabc\r\n", Refusal::ChunkSize),
        ("3_0\r\nabc\r\n", Refusal::ChunkSize),
        (";x\r\n", Refusal::ChunkSize),
        ("3\nabc\r\n", Refusal::ChunkSize),
        ("3\0\r\nabc\r\n", Refusal::ChunkSize),
        ("10000000000000000\r\n", Refusal::ChunkSize),
        ("00000000000000003\r\nabc\r\n", Refusal::ChunkSize),
        ("3\rabc\r\n", Refusal::BareCr),
        ("3\r\r\nabc\r\n", Refusal::BareCr),
        ("3;x\ny\r\nabc\r\n", Refusal::ChunkExtension),
        ("3;x\0\r\nabc\r\n", Refusal::ChunkExtension),
        ("3;x\ry\r\nabc\r\n", Refusal::BareCr),
        (&long("3;", 257), Refusal::ChunkExtension),
        ("3\r\nabcd\r\n", Refusal::ChunkEnd),
        ("3\r\nabc\n", Refusal::ChunkEnd),
        ("3\r\nabc\rx", Refusal::ChunkEnd),
        ("3\r\nabc0\r\n", Refusal::ChunkEnd),
        ("0\r\nX: y\n\r\n", Refusal::BareLf),
        ("0\r\n\n", Refusal::BareLf),
        ("0\r\nX : y\r\n\r\n", Refusal::SpaceBeforeColon),
        ("0\r\nX: y\r\n z\r\n\r\n", Refusal::ObsFold),
        ("0\r\n X: y\r\n\r\n", Refusal::ObsFold),
        ("0\r\nX: \0\r\n\r\n", Refusal::Control),
        ("0\r\nX: a\rY: b\r\n\r\n", Refusal::BareCr),
        ("0\r\nX\r\n\r\n", Refusal::NoColon),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Refusal::NoColon),
        (&long("0\r\nX: ", 8200), Refusal::TrailersTooLong),
    ] {
        let at_once = decode(message.as_bytes(), message.len()).err();
        assert_eq!(at_once, Some(expected), "{message:?}");
        assert_eq!(
            decode(message.as_bytes(), 1).err(),
            Some(expected),
            "{message:?}"
        );
    }
    let (fits, most) = (format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(256)), 1);
    assert!(decode(fits.as_bytes(), most).is_ok());
    let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(90);
    assert_eq!(
        decode(many.as_bytes(), 99).err(),
        Some(Refusal::ChunkExtension)
    );
}

#[test]
fn trailers_cannot_change_what_a_message_is() {
    let forbidden = [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Content-Type",
        "Content-Encoding",
        "Trailer",
        "Connection",
        "TE",
        "Upgrade",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Cache-Control",
        "Expect",
        "Range",
        "If-Match",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "Location",
        "Vary",
        "WWW-Authenticate",
        "Proxy-Authorization",
        "Keep-Alive",
    ];
    for name in forbidden {
        let message = format!("0\r\n{name}: x\r\n{}: y\r\n\r\n", name.to_uppercase());
        let (_, trailers, _) = decode(message.as_bytes(), 7).unwrap();
        assert_eq!(trailers, b"", "{name}");
    }
}

#[test]
fn data_may_be_moved_past_the_decoder() {
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.read(b"ffffffffff\r\nab"),
        Ok((14, Piece::Data(12..14)))
    );
    assert_eq!(decoder.data_left(), 0xff_ffff_fffd);
    decoder.skip(0xff_ffff_fffd);
    assert_eq!(decoder.data_left(), 0);
    assert_eq!(decoder.read(b"\r\n0\r\n\r\nX"), Ok((7, Piece::End)));
    assert_eq!(
        decoder.read(b"X"),
        Ok((0, Piece::End)),
        "the end stays the end"
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_another_decoder_agrees(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        cut in 1_usize..400,
    ) {
        let mut message = Vec::new();
        for chunk in &chunks {
            let before = message.len();
            write_size(chunk.len() as u64, &mut message);
            prop_assert!(message.len() - before <= SIZE_BYTES_MAX);
            if !chunk.is_empty() {
                message.extend_from_slice(chunk);
                message.extend_from_slice(CHUNK_END);
            }
        }
        write_end(b"", &mut message);
        let content = chunks.concat();
        prop_assert_eq!(decode(&message, cut), Ok((content.clone(), vec![], 0)));
        let mut theirs = Vec::new();
        let mut other = chunked_transfer::Decoder::new(message.as_slice());
        std::io::Read::read_to_end(&mut other, &mut theirs).unwrap();
        prop_assert_eq!(theirs, content);
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        start in proptest::sample::select(vec!["", "3\r\n", "0\r\n", "1;"]),
    ) {
        let bytes = [start.as_bytes(), bytes.as_slice()].concat();
        let mut decoder = Decoder::default();
        let mut at = 0;
        while let Ok((used, piece)) = decoder.read(&bytes[at..]) {
            at += used;
            if piece == Piece::End || piece == Piece::NeedMore {
                break;
            }
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_formatted(len in 1_u64..) {
        let mut out = Vec::new();
        write_size(len, &mut out);
        prop_assert_eq!(out, format!("{len:x}\r\n").into_bytes());
    }
}
