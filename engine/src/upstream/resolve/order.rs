//! In which order the addresses of a name are tried (RFC 8305 section 4).

use std::net::IpAddr;

/// Sorts addresses for one connection: the families take turns, IPv6 first, and within a family each
/// connection begins with another address, so that all of them have their share.
pub(super) fn arrange(addresses: &[IpAddr], turn: u64) -> Vec<IpAddr> {
    let family = |is_ipv6: bool| {
        let own = addresses.iter().copied();
        let mut own: Vec<IpAddr> = own.filter(|address| address.is_ipv6() == is_ipv6).collect();
        let turns = turn % own.len().max(1) as u64;
        let turns = usize::try_from(turns).unwrap_or(0);
        own.rotate_left(turns);
        own
    };
    let (mut six, mut four) = (family(true).into_iter(), family(false).into_iter());
    let mut arranged = Vec::with_capacity(addresses.len());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return arranged;
        }
        arranged.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(addresses: &[&str], turn: u64) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        arrange(&addresses, turn)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_comes_first() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"];
        assert_eq!(
            arranged(&addresses, 0),
            ["fd00::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
        );
        assert_eq!(arranged(&["fd00::1"], 3), ["fd00::1"]);
        assert!(arranged(&[], 1).is_empty());
    }

    #[test]
    fn every_address_comes_first_of_its_family_as_often_as_the_others() {
        let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"];
        let firsts: Vec<String> = (0..4)
            .map(|turn| arranged(&addresses, turn).remove(0))
            .collect();
        assert_eq!(firsts, ["fd00::1", "fd00::2", "fd00::1", "fd00::2"]);
        for turn in 0..4 {
            let mut all = arranged(&addresses, turn);
            all.sort();
            assert_eq!(all, addresses);
        }
    }
}
