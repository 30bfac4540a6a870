//! Questions to name servers, and what their answers say. Bytes in, values out.

use std::{net::IpAddr, time::Duration};

use engine_core::hostname::Hostname;
use hickory_proto::{
    op::{Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

/// Most addresses of one family that are taken from an answer; the rest is passed over.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Most aliases (CNAME) that are followed within an answer.
const ALIASES_MAX: usize = 16;

/// How long a negative answer counts whose zone says nothing of that.
const NEGATIVE_UNSAID: Duration = Duration::from_secs(5);

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What a name server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its addresses, and how long they count as far as the server says.
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// There is no such name, or it has no address of the family; and how long that counts.
    Nothing { ttl: Duration },
    /// The answer did not fit: it is to be had over TCP.
    Truncated,
    /// The server cannot, or does not want to.
    Failed,
}

impl Family {
    fn record(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

/// A question for the addresses of a name, as a message; `None` for a name that no message can carry.
pub(super) fn question(id: u16, host: &Hostname, family: Family) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name_of(host)?, family.record()));
    message.to_vec().ok()
}

/// Reads the answer to a question; `None` where the bytes are none to this one: another id, another
/// question, or malformed.
pub(super) fn read(bytes: &[u8], id: u16, host: &Hostname, family: Family) -> Option<Answer> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let Header { metadata, counts } = header;
    if metadata.id != id
        || metadata.message_type != MessageType::Response
        || metadata.op_code != OpCode::Query
        || counts.queries != 1
    {
        return None;
    }
    let asked = Message::read_queries(&mut decoder, 1).ok()?.pop()?;
    let name = name_of(host)?;
    // Names are compared without regard to case.
    if asked.name != name
        || asked.query_type != family.record()
        || asked.query_class != DNSClass::IN
    {
        return None;
    }
    if metadata.truncation {
        return Some(Answer::Truncated);
    }
    let meant = [ResponseCode::NoError, ResponseCode::NXDomain];
    if !meant.contains(&metadata.response_code) {
        return Some(Answer::Failed);
    }
    let mut section = |count: u16| {
        let read = Message::read_records(&mut decoder, count.into(), false, OpCode::Query);
        read.ok().map(|(records, ..)| records)
    };
    let (answers, authorities) = (section(counts.answers)?, section(counts.authorities)?);
    let (addresses, ttl) = follow(&answers, name, family);
    if addresses.is_empty() {
        let ttl = negative_ttl(&authorities);
        return Some(Answer::Nothing { ttl });
    }
    Some(Answer::Addresses { addresses, ttl })
}

/// The addresses that a name has in an answer, by whatever aliases, and the shortest time that a record on
/// the way counts. What is said of other names is nothing that was asked for.
fn follow(answers: &[Record], mut name: Name, family: Family) -> (Vec<IpAddr>, Duration) {
    let mut ttl = u32::MAX;
    for _ in 0..=ALIASES_MAX {
        let own = || {
            let records = answers.iter();
            records.filter(|record| record.dns_class == DNSClass::IN && record.name == name)
        };
        let found = own().filter_map(|record| Some((address(&record.data, family)?, record.ttl)));
        let found: Vec<(IpAddr, u32)> = found.take(ADDRESSES_MAX).collect();
        if !found.is_empty() {
            ttl = found.iter().fold(ttl, |ttl, (_, own)| ttl.min(*own));
            let mut addresses: Vec<IpAddr> = Vec::new();
            for (address, _) in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            return (addresses, Duration::from_secs(ttl.into()));
        }
        let alias = own().find_map(|record| {
            let RData::CNAME(alias) = &record.data else {
                return None;
            };
            Some((alias.0.clone(), record.ttl))
        });
        let Some((alias, alias_ttl)) = alias else {
            break;
        };
        ttl = ttl.min(alias_ttl);
        name = alias;
    }
    (Vec::new(), Duration::ZERO)
}

fn address(data: &RData, family: Family) -> Option<IpAddr> {
    if let (RData::A(address), Family::V4) = (data, family) {
        return Some(IpAddr::V4(address.0));
    }
    if let (RData::AAAA(address), Family::V6) = (data, family) {
        return Some(IpAddr::V6(address.0));
    }
    None
}

/// How long it counts that there is nothing (RFC 2308 section 5).
fn negative_ttl(authorities: &[Record]) -> Duration {
    let said = authorities.iter().find_map(|record| {
        let RData::SOA(zone) = &record.data else {
            return None;
        };
        Some(zone.minimum.min(record.ttl))
    });
    said.map_or(NEGATIVE_UNSAID, |seconds| {
        Duration::from_secs(seconds.into())
    })
}

/// The name as it is, below the root.
fn name_of(host: &Hostname) -> Option<Name> {
    let mut name = Name::from_ascii(host.as_str()).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests;
