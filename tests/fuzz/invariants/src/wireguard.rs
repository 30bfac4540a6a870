use engine_wireguard::fuzzing;

/// Reads `input` as datagrams that come to a device with a session: some as they are, some sealed by
/// the other end, some of those with a bit changed.
///
/// # Panics
/// Where something that nobody authenticated is answered, believed or leaves a trace; where a
/// message counts twice.
pub fn datagram(input: &[u8]) {
    fuzzing::receive(input);
}

/// Reads `input` as a super-packet to split, or, where the highest bit of the first byte is set, as
/// packets to merge and split again.
///
/// # Panics
/// Where a packet is not whole, or is another one than before.
pub fn super_packet(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    if first & 0x80 == 0 {
        fuzzing::split(rest);
    } else {
        fuzzing::merge(input);
    }
}
