//! Bytes that say whose they are.

/// So many of a network's bytes. Each line has its number, so that no part can be taken for another.
pub(crate) fn marked(mark: char, count: usize) -> String {
    let line = mark.to_string().repeat(11);
    let mut bytes = String::with_capacity(count + 16);
    for number in 0.. {
        if bytes.len() >= count {
            break;
        }
        bytes += &format!("{line}{:04}\n", number % 10_000);
    }
    bytes.truncate(count);
    bytes
}

/// A whole response, which whoever takes it for its own has another one's bytes in.
pub(crate) fn answer(mark: char, count: usize) -> String {
    let content = marked(mark, count);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n{content}")
}

/// Compares without printing megabytes.
pub(crate) fn assert_same(got: &[u8], wanted: &str, whose: &str) {
    let wanted = wanted.as_bytes();
    let same = got
        .iter()
        .zip(wanted)
        .take_while(|(got, wanted)| got == wanted);
    let at = same.count();
    let end = got.len().min(at + 64);
    assert!(
        got == wanted,
        "{whose}: {} bytes for {}, different from {at} on: {}",
        got.len(),
        wanted.len(),
        got[at..end].escape_ascii()
    );
}
