//! Certificates that are obtained from ACME directories (RFC 8555).

mod text;

use std::{
    collections::HashSet,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

pub use text::{
    AskUrl, AskUrlError, CertificateName, Contact, ContactError, DirectoryName, DirectoryNameError,
    DirectoryUrl, DirectoryUrlError, KeyId, KeyIdError, Zone,
};

use crate::{
    document::Spot,
    field::words,
    problem::Problems,
    section::{Check, section},
};

/// Most names of the gateway itself; networks declare theirs in the state document.
pub const OWN_NAMES_MAX: usize = 10_000;

section! {
    /// Certificates that are obtained from ACME directories (RFC 8555), and renewed in time.
    pub struct Acme {
        /// ACME directories. The first is the default. By adding one you agree to its terms of
        /// service.
        directories: Option<Vec<Directory>>;
        /// Names of the gateway itself. Names of networks are in the state document.
        names: Option<Vec<OwnName>>;
        /// The default challenge.
        challenge: Challenge = "http-01";
        /// How dns-01 writes records into zones.
        dns: Dns;
        /// Certificates for names that no network declares.
        on_demand: OnDemand;
        /// Maximum concurrent orders.
        orders_at_once_max: NonZeroU16 = "8" in "1"..="256";
        /// Maximum orders per hour for one network, including renewals. The gateway itself counts
        /// as a network.
        network_orders_per_hour: NonZeroU32 = "50" in "1"..="100000";
        /// The wait after the first failed order. It doubles with each failure up to a day, and
        /// varies by a quarter.
        retry_wait: Duration = "1m" in "1s"..="1d";
    }
}

section! {
    /// An ACME directory.
    pub struct Directory {
        /// The name in the state document, in the API and in metrics.
        name: DirectoryName;
        /// The URL.
        url: DirectoryUrl;
        /// Contact addresses of the account.
        contact: Option<Vec<Contact>>;
        /// The authorities that verify the directory's server: certificates in PEM, relative to the
        /// boot file's folder. By default the public ones.
        roots: Option<PathBuf>;
        /// The key identifier for external account binding (RFC 8555 section 7.3.4).
        eab_key_id: Option<KeyId>;
        /// A file with the MAC key for it, in base64url as the directory gave it. Relative to the
        /// boot file's folder.
        eab_key_file: Option<PathBuf>;
        /// Maximum orders per hour of all networks together.
        orders_per_hour: NonZeroU32 = "100" in "1"..="1000000";
    }
}

section! {
    /// A name of the gateway itself.
    pub struct OwnName {
        /// The name. A wildcard such as `*.example.com` needs dns-01.
        name: CertificateName;
        /// The directory, by its name.
        directory: Option<DirectoryName>;
        /// The challenge.
        challenge: Option<Challenge>;
    }
}

section! {
    /// How dns-01 writes records into zones.
    pub struct Dns {
        /// Zones whose server accepts dynamic updates (RFC 2136). The most specific zone is used.
        zones: Option<Vec<DnsZone>>;
        /// A program for names in no such zone. Its arguments are `add` or `remove`, the name of
        /// the record and its text. Its environment is empty. It exits with 0 when done.
        hook: Option<PathBuf>;
        /// How long the program may run before it is killed.
        hook_timeout: Duration = "2m" in "1s"..="1h";
        /// How long to wait until a new record is on every server of its zone.
        propagation_wait: Duration = "10s" in "0s"..="1h";
    }
}

section! {
    /// A zone whose server takes updates, signed with a key (TSIG, RFC 8945).
    pub struct DnsZone {
        /// The zone.
        zone: Zone;
        /// The primary server of the zone.
        server: SocketAddr;
        /// The name of the TSIG key.
        key_name: Zone;
        /// The algorithm of the TSIG key.
        key_algorithm: TsigAlgorithm = "hmac-sha256";
        /// A file with the TSIG key in base64, relative to the boot file's folder.
        key_file: PathBuf;
    }
}

section! {
    /// Certificates for names that nobody declared, obtained when a client asks for one.
    pub struct OnDemand {
        /// The URL of a service that decides about a name: Ringway asks it with `?domain=NAME`, and
        /// status 200 agrees. Without it no certificate is obtained on demand. With a `tls.default`
        /// clients get that one instead.
        ask: Option<AskUrl>;
        /// Timeout for its response.
        ask_timeout: Duration = "5s" in "100ms"..="1m";
        /// How long a refused name is not asked about again.
        refused_for: Duration = "10m" in "1s"..="7d";
        /// Names per hour that one source prefix (an IPv4 address, or an IPv6 /64) may cause
        /// questions about. An IPv6 /48 may cause four times as many.
        source_names_per_hour: NonZeroU32 = "10" in "1"..="100000";
        /// Names per hour that all sources together may cause questions about. A quarter is
        /// reserved for sources (an IPv6 /48 counts as one) without a recently refused name.
        names_per_hour: NonZeroU32 = "1000" in "1"..="1000000";
        /// The directory, by its name.
        directory: Option<DirectoryName>;
        /// The challenge.
        challenge: Option<Challenge>;
    }
}

words! {
    /// How a directory is shown that a name is ours.
    pub enum Challenge {
        /// A document at a well-known path, on port 80 (RFC 8555 section 8.3).
        Http01 = "http-01",
        /// A certificate for a protocol of its own, on port 443 (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
        /// A record in the zone (RFC 8555 section 8.4).
        Dns01 = "dns-01",
    }
}

words! {
    /// What a TSIG key is for.
    pub enum TsigAlgorithm {
        /// HMAC with SHA-256.
        HmacSha256 = "hmac-sha256",
        /// HMAC with SHA-384.
        HmacSha384 = "hmac-sha384",
        /// HMAC with SHA-512.
        HmacSha512 = "hmac-sha512",
    }
}

impl Acme {
    /// The directory of that name, or the first one.
    pub fn directory(&self, name: Option<&DirectoryName>) -> Option<&Directory> {
        let mut directories = self.directories.iter().flatten();
        match name {
            None => directories.next(),
            Some(name) => directories.find(|directory| directory.name == *name),
        }
    }

    /// How a name is proved that says so, or says nothing.
    pub fn challenge(&self, name: &CertificateName, said: Option<Challenge>) -> Challenge {
        match said {
            Some(said) => said,
            None if name.is_wildcard() => Challenge::Dns01,
            None => self.challenge,
        }
    }

    /// What stands against a certificate for a name, proved and obtained that way.
    pub fn objection(
        &self,
        name: &CertificateName,
        directory: Option<&DirectoryName>,
        said: Option<Challenge>,
    ) -> Option<String> {
        if self.directory(directory).is_none() {
            return Some(match directory {
                Some(name) => format!("`acme.directories` has none of the name `{name}`"),
                None => "`acme.directories` is empty: there is no directory to obtain a certificate from"
                    .to_owned(),
            });
        }
        let challenge = self.challenge(name, said);
        if name.is_wildcard() && challenge != Challenge::Dns01 {
            return Some("a name with a wildcard is proved by dns-01 alone".to_owned());
        }
        if challenge == Challenge::Dns01 && !self.dns.reaches(name) {
            return Some(format!(
                "neither is {name} in one of `acme.dns.zones`, nor is there an `acme.dns.hook`: \
                 dns-01 cannot prove it"
            ));
        }
        None
    }
}

impl Dns {
    /// The zone that a name's record goes into.
    pub fn zone(&self, name: &CertificateName) -> Option<&DnsZone> {
        let zones = self.zones.iter().flatten();
        let holding = zones.filter(|zone| zone.zone.holds(name.domain()));
        holding.max_by_key(|zone| zone.zone.as_str().len())
    }

    fn reaches(&self, name: &CertificateName) -> bool {
        self.hook.is_some() || self.zone(name).is_some()
    }
}

impl Check for Acme {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let mut names = HashSet::new();
        for directory in self.directories.iter().flatten() {
            if !names.insert(&directory.name) {
                let name = &directory.name;
                spot.error(
                    problems,
                    format_args!("two directories have the name `{name}`"),
                );
            }
        }
        let own = self.names.as_deref().unwrap_or_default();
        if own.len() > OWN_NAMES_MAX {
            spot.error(problems, format_args!("more than {OWN_NAMES_MAX} names"));
        }
        let mut known = HashSet::new();
        for OwnName {
            name,
            directory,
            challenge,
        } in own
        {
            if !known.insert(name) {
                spot.error(problems, format_args!("{name} is declared twice"));
            }
            if let Some(objection) = self.objection(name, directory.as_ref(), *challenge) {
                spot.error(problems, format_args!("{name}: {objection}"));
            }
        }
        let on_demand = &self.on_demand;
        if on_demand.ask.is_some() && self.directory(on_demand.directory.as_ref()).is_none() {
            spot.error(
                problems,
                "`on_demand` has no directory to obtain certificates from",
            );
        }
        let by_dns = on_demand.challenge.unwrap_or(self.challenge) == Challenge::Dns01;
        if by_dns && on_demand.ask.is_some() && self.dns.hook.is_none() && self.dns.zones.is_none()
        {
            spot.error(
                problems,
                "`on_demand` uses dns-01, but `dns` has neither zones nor a hook",
            );
        }
    }
}

impl Check for Directory {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.eab_key_id.is_some() != self.eab_key_file.is_some() {
            spot.error(
                problems,
                "`eab_key_id` and `eab_key_file` go together: one of them is missing",
            );
        }
    }
}

impl Check for OwnName {}

impl Check for Dns {}

impl Check for DnsZone {}

impl Check for OnDemand {}
