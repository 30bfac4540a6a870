//! Which rule some lines break that httparse did not take.
//!
//! httparse says that a head is wrong, not why. Only refused heads come here.

use crate::{octet, refusal::Refusal};

/// What is wrong with field lines, each ended by CR LF.
pub(crate) fn refusal_of_fields(lines: &[u8]) -> Refusal {
    first_refusal(lines).unwrap_or(Refusal::Control)
}

/// The first rule that field lines break, each ended by CR LF. `None` where they break none.
pub(crate) fn first_refusal(lines: &[u8]) -> Option<Refusal> {
    lines
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .find_map(|line| check(line).err())
}

/// Checks one field line without its CR LF.
pub(crate) fn check(line: &[u8]) -> Result<(), Refusal> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Refusal::ObsFold);
    }
    if memchr::memchr(b'\r', line).is_some() {
        return Err(Refusal::BareCr);
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::NoColon)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name {
        [] => Err(Refusal::EmptyName),
        [.., b' ' | b'\t'] => Err(Refusal::SpaceBeforeColon),
        _ if !octet::is_token(name) => Err(Refusal::Name),
        _ if !value.iter().copied().all(octet::is_value) => Err(Refusal::Control),
        _ => Ok(()),
    }
}
