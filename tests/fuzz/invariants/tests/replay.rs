//! Replays what the fuzzer found worth keeping, and the hellos of real clients, on every test run.

use std::{
    fs, io,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use fuzz_invariants::{datagram, hello, http, proxy_header, super_packet};

/// The files of a folder beside this package, which must not be empty.
fn files(folder: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = fs::read(&path)?;
            files.push((path, bytes));
        }
    }
    assert!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

fn replay(files: Vec<(PathBuf, Vec<u8>)>, invariant: fn(&[u8])) {
    for (path, input) in files {
        let held = catch_unwind(|| invariant(&input)).is_ok();
        assert!(held, "{} does not hold", path.display());
    }
}

#[test]
fn the_corpus_of_hellos_holds() {
    replay(files("../corpus/hello").unwrap(), hello);
}

#[test]
fn the_corpus_of_proxy_headers_holds() {
    replay(files("../corpus/proxy_header").unwrap(), proxy_header);
}

#[test]
fn the_corpus_of_datagrams_holds() {
    replay(files("../corpus/datagram").unwrap(), datagram);
}

#[test]
fn the_corpus_of_super_packets_holds() {
    replay(files("../corpus/super_packet").unwrap(), super_packet);
}

#[test]
fn the_corpora_of_http_hold() {
    for (folder, invariant) in [
        ("http_request", http::request as fn(&[u8])),
        ("http_response", http::response),
        ("http_chunked", http::chunked),
        ("http_rewriting", http::rewriting),
    ] {
        replay(files(&format!("../corpus/{folder}")).unwrap(), invariant);
    }
}

#[test]
fn the_hellos_of_real_clients_hold_in_all_cuts() {
    let cuts: [&[u8]; 6] = [&[], &[1], &[5], &[1, 4, 200], &[255], &[3, 1, 1, 1, 90]];
    let files = files("../../fixtures/hellos").unwrap();
    let is_hello = |path: &Path| path.extension().is_some_and(|it| it == "bin");
    for (_, bytes) in files.iter().filter(|(path, _)| is_hello(path)) {
        for lens in cuts {
            let count = u8::try_from(lens.len()).unwrap();
            hello(&[&[count], lens, bytes].concat());
        }
    }
}
