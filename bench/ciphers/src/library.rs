//! The libraries, each behind the same two functions.

use anyhow::{Result, ensure};
use aws_lc_rs::aead as aws;
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use chacha20poly1305::{
    ChaCha20Poly1305,
    aead::{AeadInOut, KeyInit},
};
use graviola::aead::ChaCha20Poly1305 as Graviola;
use poly1305::Poly1305;
use ring::aead;

use crate::{PIECE_BYTES, nonce};

/// Bytes of a nonce and of a tag (RFC 8439 section 2.8).
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

const KEY: [u8; 32] = [42; 32];

/// Seals in place and gives the tag; a part of a cipher gives what it has, or zeros.
type Seal = Box<dyn Fn([u8; NONCE_BYTES], &mut [u8]) -> [u8; TAG_BYTES]>;
/// Opens in place, and says whether the tag was right.
type Open = Box<dyn Fn([u8; NONCE_BYTES], &mut [u8], &[u8; TAG_BYTES]) -> bool>;

/// A library, or a part of one that says how far the whole could come.
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) seal: Seal,
    pub(crate) open: Option<Open>,
}

/// All of them.
pub(crate) fn all() -> Vec<Library> {
    [
        ring(),
        aws_lc(),
        graviola(),
        rust_crypto(),
        chacha(),
        poly(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Library {
    /// Whether ring opens what it sealed; of a part there is nothing to check.
    ///
    /// # Errors
    /// When ring does not.
    pub(crate) fn check(&self) -> Result<()> {
        let (Some(_), Some(ring)) = (&self.open, ring()) else {
            return Ok(());
        };
        let mut message = vec![9; PIECE_BYTES];
        let tag = (self.seal)(nonce(1), &mut message);
        let opened = ring
            .open
            .is_some_and(|open| open(nonce(1), &mut message, &tag));
        ensure!(
            opened && message == [9; PIECE_BYTES],
            "{} is wrong",
            self.name
        );
        Ok(())
    }
}

fn ring() -> Option<Library> {
    let key = || {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &KEY);
        key.ok().map(aead::LessSafeKey::new)
    };
    let (sealing, opening) = (key()?, key()?);
    Some(Library {
        name: "ring",
        seal: Box::new(move |nonce, message| {
            let nonce = aead::Nonce::assume_unique_for_key(nonce);
            let tag = sealing.seal_in_place_separate_tag(nonce, aead::Aad::empty(), message);
            tag.map_or([0; TAG_BYTES], |tag| taken(tag.as_ref()))
        }),
        open: Some(Box::new(move |nonce, message, tag| {
            let nonce = aead::Nonce::assume_unique_for_key(nonce);
            let (aad, tag) = (aead::Aad::empty(), aead::Tag::from(*tag));
            let opened = opening.open_in_place_separate_tag(nonce, aad, tag, message, 0..);
            opened.is_ok()
        })),
    })
}

fn aws_lc() -> Option<Library> {
    let key = || {
        let key = aws::UnboundKey::new(&aws::CHACHA20_POLY1305, &KEY);
        key.ok().map(aws::LessSafeKey::new)
    };
    let (sealing, opening) = (key()?, key()?);
    Some(Library {
        name: "aws-lc-rs",
        seal: Box::new(move |nonce, message| {
            let nonce = aws::Nonce::assume_unique_for_key(nonce);
            let tag = sealing.seal_in_place_separate_tag(nonce, aws::Aad::empty(), message);
            tag.map_or([0; TAG_BYTES], |tag| taken(tag.as_ref()))
        }),
        open: Some(Box::new(move |nonce, message, tag| {
            let nonce = aws::Nonce::assume_unique_for_key(nonce);
            let opened = opening.open_in_place_separate_tag(nonce, aws::Aad::empty(), tag, message);
            opened.is_ok()
        })),
    })
}

fn graviola() -> Option<Library> {
    let (sealing, opening) = (Graviola::new(KEY), Graviola::new(KEY));
    Some(Library {
        name: "graviola",
        seal: Box::new(move |nonce, message| {
            let mut tag = [0; TAG_BYTES];
            sealing.encrypt(&nonce, &[], message, &mut tag);
            tag
        }),
        open: Some(Box::new(move |nonce, message, tag| {
            opening.decrypt(&nonce, &[], message, tag).is_ok()
        })),
    })
}

fn rust_crypto() -> Option<Library> {
    let key = || ChaCha20Poly1305::new(&KEY.into());
    let (sealing, opening) = (key(), key());
    Some(Library {
        name: "RustCrypto, AVX-512 ChaCha20",
        seal: Box::new(move |nonce, message| {
            let tag = sealing.encrypt_inout_detached(&nonce.into(), &[], message.into());
            tag.map_or([0; TAG_BYTES], Into::into)
        }),
        open: Some(Box::new(move |nonce, message, tag| {
            let (nonce, tag) = (nonce.into(), (*tag).into());
            let opened = opening.decrypt_inout_detached(&nonce, &[], message.into(), &tag);
            opened.is_ok()
        })),
    })
}

/// Half of an AEAD: the bound of what several messages at once could make of this half.
fn chacha() -> Option<Library> {
    Some(Library {
        name: "RustCrypto's AVX-512 ChaCha20 without a tag",
        seal: Box::new(|nonce, message| {
            ChaCha20::new(&KEY.into(), &nonce.into()).apply_keystream(message);
            [0; TAG_BYTES]
        }),
        open: None,
    })
}

/// The other half.
fn poly() -> Option<Library> {
    Some(Library {
        name: "RustCrypto's Poly1305 alone",
        seal: Box::new(|_, message| Poly1305::new(&KEY.into()).compute_unpadded(message).into()),
        open: None,
    })
}

fn taken(tag: &[u8]) -> [u8; TAG_BYTES] {
    tag.try_into().unwrap_or_default()
}
