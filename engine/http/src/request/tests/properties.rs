//! What holds for every request.

use proptest::prelude::*;

use super::*;

/// Pieces that heads are made of, right and wrong.
fn piece() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: y\r\n",
        "X : y\r\n",
        " folded\r\n",
        "Connection: close, x\r\n",
        "\r\n",
        "\n",
        "\r",
        "\0",
        ":",
        "\u{fc}",
        " ",
    ])
}

fn shape(reading: &Reading<Request<'_>>) -> String {
    format!("{reading:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_verdict_depends_on_the_bytes_and_not_on_how_they_were_cut(
        pieces in proptest::collection::vec(piece(), 0..8),
        cuts in proptest::collection::vec(1_usize..12, 1..40),
        head_bytes_max in 20_usize..200,
    ) {
        let bytes = ["GET / HTTP/1.1\r\nHost: a\r\n", &pieces.concat(), "\r\n\r\nrest"].concat();
        let bytes = bytes.as_bytes();
        let limits = Limits { head_bytes_max, target_bytes_max: 20, fields_max: 5 };
        let at_once = shape(&read_with(bytes, &limits));
        let mut scan = Scan::default();
        let mut end = 0;
        let mut last = String::from("NeedMore");
        for cut in cuts.iter().cycle() {
            end = bytes.len().min(end + cut);
            let reading = read(&bytes[..end], &limits, &mut scan);
            prop_assert!(last == "NeedMore" || last == shape(&reading), "it changed its mind");
            last = shape(&reading);
            if end == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(last, at_once);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_with(&bytes, &Limits::default());
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", bytes.as_slice(), b"\r\n\r\n"].concat();
        let _ = read_with(&head, &Limits::default());
    }

    #[test]
    fn the_fields_of_a_request_can_be_walked_over_as_they_were_parsed(
        pieces in proptest::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,9}", "[ -~\t\u{80}-\u{ff}]{0,20}"), 0..9)
    ) {
        let lines: String = pieces.iter().map(|(name, value)| format!("z{name}:{value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let request = refusal(head.as_bytes()).unwrap();
        let walked: Vec<(String, Vec<u8>)> = request
            .fields
            .into_iter()
            .skip(1)
            .map(|field| (String::from_utf8_lossy(field.name).into_owned(), field.value.to_vec()))
            .collect();
        let sent: Vec<(String, Vec<u8>)> = pieces
            .iter()
            .map(|(name, value)| {
                let value = value.trim_matches([' ', '\t']);
                (format!("z{name}"), value.as_bytes().to_vec())
            })
            .collect();
        prop_assert_eq!(walked, sent);
    }
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_looked_at_once() {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(60_000)
    );
    let mut scan = Scan::default();
    let started = std::time::Instant::now();
    for end in 0..head.len() {
        let reading = read(&head.as_bytes()[..end], &Limits::default(), &mut scan);
        assert_eq!(shape(&reading), "NeedMore");
    }
    // Quadratic, this would be 1.8 billion bytes: seconds without optimisation.
    assert!(
        started.elapsed().as_millis() < 500,
        "{:?}",
        started.elapsed()
    );
}
