//! What WireGuard's cipher costs: ChaCha20-Poly1305 (RFC 8439) in several libraries, on one core.
//!
//! Without arguments it says what the processor can do, and then, one a line, what it has. With the
//! name of one and a number of seconds, it writes gigabytes a second as JSON. Each is first held
//! against ring: what one seals, the other opens.

use std::{
    env,
    hint::black_box,
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

mod library;

use library::{Library, NONCE_BYTES, TAG_BYTES};

/// Bytes of a packet at the usual MTU.
const PIECE_BYTES: usize = 1420;
/// Packets in one super-packet: what a UDP send may carry of them.
const PIECES: usize = 45;
/// Rounds between two looks at the clock.
const ROUNDS: u32 = 16;

fn main() -> Result<()> {
    let mut out = io::stdout().lock();
    let Some(name) = env::args().nth(1) else {
        writeln!(out, "{}", features())?;
        for library in library::all() {
            writeln!(out, "{}", library.name)?;
        }
        return Ok(());
    };
    let seconds: f64 = env::args().nth(2).context("how many seconds?")?.parse()?;
    let part = Duration::try_from_secs_f64(seconds / 3.0)?;
    let library = library::all().into_iter().find(|one| one.name == name);
    let library = library.with_context(|| format!("no library is called {name}"))?;
    library.check()?;
    let seal = rate(part, |buffer, number| {
        for piece in buffer.chunks_exact_mut(PIECE_BYTES) {
            black_box((library.seal)(nonce(number), piece));
        }
    });
    let whole = rate(part, |buffer, number| {
        black_box((library.seal)(nonce(number), buffer));
    });
    write!(out, "{{\"seal\": {seal}, \"whole\": {whole}")?;
    if let Some(open) = &library.open {
        let tags = sealed(&library);
        // Opening fails only for what was changed, and that costs as much: the message is opened
        // from fresh copies of the sealed one, whose copying is timed apart and taken off.
        let (mut buffer, copy) = tags;
        let mut failures = 0_u32;
        let with_copy = timed(part, || {
            for (piece, (sealed, tag)) in buffer.chunks_exact_mut(PIECE_BYTES).zip(&copy) {
                piece.copy_from_slice(sealed);
                failures += u32::from(!open(nonce(0), piece, tag));
            }
        });
        let copying = timed(part, || {
            for (piece, (sealed, _)) in buffer.chunks_exact_mut(PIECE_BYTES).zip(&copy) {
                piece.copy_from_slice(black_box(sealed));
            }
        });
        ensure!(failures == 0, "{name} does not open what it sealed");
        write!(out, ", \"open\": {}", gigabytes(with_copy - copying))?;
    }
    writeln!(out, "}}")?;
    Ok(())
}

/// What the processor can do that matters here.
fn features() -> String {
    let mut found = Vec::new();
    macro_rules! note {
        ($($name:tt),*) => {
            $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })*
        };
    }
    note!("avx2", "avx512f", "avx512vl", "avx512bw", "avx512ifma");
    format!("with {}", found.join(", "))
}

/// A nonce as WireGuard makes it: four zero bytes and a counter (the WireGuard paper, section 5.4.6).
fn nonce(number: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// Gigabytes a second at which `work` goes through a super-packet.
fn rate(part: Duration, mut work: impl FnMut(&mut [u8], u64)) -> f64 {
    let mut buffer = vec![7; PIECES * PIECE_BYTES];
    let mut number = 0;
    gigabytes(timed(part, || {
        number += 1;
        work(&mut buffer, number);
    }))
}

/// Seconds that `work` takes, once: the median of a few parts of the time.
fn timed(part: Duration, mut work: impl FnMut()) -> f64 {
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < part {
        let begun = Instant::now();
        (0..ROUNDS).for_each(|_| work());
        samples.push(begun.elapsed().as_secs_f64() / f64::from(ROUNDS));
    }
    samples.sort_by(f64::total_cmp);
    samples
        .get(samples.len() / 2)
        .copied()
        .unwrap_or(f64::INFINITY)
}

fn gigabytes(seconds: f64) -> f64 {
    (PIECES * PIECE_BYTES) as f64 / 1e9 / seconds
}

/// A super-packet, and its pieces sealed with their tags.
#[expect(clippy::type_complexity, reason = "a piece and its tag")]
fn sealed(library: &Library) -> (Vec<u8>, Vec<(Vec<u8>, [u8; TAG_BYTES])>) {
    let plain = vec![7; PIECES * PIECE_BYTES];
    let pieces = plain.chunks_exact(PIECE_BYTES).map(|piece| {
        let mut piece = piece.to_vec();
        let tag = (library.seal)(nonce(0), &mut piece);
        (piece, tag)
    });
    (plain.clone(), pieces.collect())
}
