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
        /// Where certificates are obtained. The first one counts where none is named. Whoever writes
        /// one here agrees to its terms of service.
        directories: Option<Vec<Directory>>;
        /// Names that the gateway itself has certificates for; those of networks are in the state
        /// document.
        names: Option<Vec<OwnName>>;
        /// How names are proved that say nothing of it.
        challenge: Challenge = "http-01";
        /// How records get into zones, for dns-01.
        dns: Dns;
        /// Certificates for names that nobody declared.
        on_demand: OnDemand;
        /// Orders that are under way at once.
        orders_at_once_max: NonZeroU16 = "8" in "1"..="256";
        /// Orders an hour for one network, renewals included; the gateway itself counts as one.
        network_orders_per_hour: NonZeroU32 = "50" in "1"..="100000";
        /// The first wait after a failed order; it doubles up to a day, and varies by a quarter.
        retry_wait: Duration = "1m" in "1s"..="1d";
    }
}

section! {
    /// An ACME directory.
    pub struct Directory {
        /// Its name in the state document, in answers and in metrics.
        name: DirectoryName;
        /// Its URL.
        url: DirectoryUrl;
        /// Whom it writes to about the account.
        contact: Option<Vec<Contact>>;
        /// Certificates in PEM that its server is verified by, from the boot file's folder; without
        /// them, those that browsers trust.
        roots: Option<PathBuf>;
        /// The key identifier that it gave out for external account binding (RFC 8555 section 7.3.4).
        eab_key_id: Option<KeyId>;
        /// A file with the MAC key that belongs to it, in base64url as it was given out, from the
        /// boot file's folder.
        eab_key_file: Option<PathBuf>;
        /// Orders an hour, of all networks together.
        orders_per_hour: NonZeroU32 = "100" in "1"..="1000000";
    }
}

section! {
    /// A name of the gateway itself.
    pub struct OwnName {
        /// The name; one such as `*.example.com` takes dns-01.
        name: CertificateName;
        /// Where its certificate is obtained.
        directory: Option<DirectoryName>;
        /// How it is proved.
        challenge: Option<Challenge>;
    }
}

section! {
    /// How records get into zones, for dns-01.
    pub struct Dns {
        /// Zones whose server takes updates (RFC 2136); the most specific one counts.
        zones: Option<Vec<DnsZone>>;
        /// A program that is run for names in no such zone: `add` or `remove`, the record's name and
        /// its text are its arguments, its environment is empty, and it ends with 0 when it is done.
        hook: Option<PathBuf>;
        /// How long the program may run before it is killed.
        hook_timeout: Duration = "2m" in "1s"..="1h";
        /// How long a new record is given to reach every server of its zone.
        propagation_wait: Duration = "10s" in "0s"..="1h";
    }
}

section! {
    /// A zone whose server takes updates, signed with a key (TSIG, RFC 8945).
    pub struct DnsZone {
        /// The zone.
        zone: Zone;
        /// Its primary server.
        server: SocketAddr;
        /// The name of the key.
        key_name: Zone;
        /// What it is for.
        key_algorithm: TsigAlgorithm = "hmac-sha256";
        /// A file with the key in base64, from the boot file's folder.
        key_file: PathBuf;
    }
}

section! {
    /// Certificates for names that nobody declared, obtained when a client asks for one.
    pub struct OnDemand {
        /// Who is asked first, with `?domain=NAME`: status 200 agrees. Without it there are none, nor are there
        /// any beside a `tls.default`, which clients get instead.
        ask: Option<AskUrl>;
        /// How long the answer may take.
        ask_timeout: Duration = "5s" in "100ms"..="1m";
        /// For how long a refused name is not asked about again.
        refused_for: Duration = "10m" in "1s"..="7d";
        /// Names an hour that clients of one source prefix (an IPv4 address, or an IPv6 /64) may have
        /// asked about; an IPv6 /48 four times as many.
        source_names_per_hour: NonZeroU32 = "10" in "1"..="100000";
        /// Names an hour that are asked about, of all sources together. A quarter of these is kept
        /// for sources (an IPv6 /48 is one here) that had no name refused of late.
        names_per_hour: NonZeroU32 = "1000" in "1"..="1000000";
        /// Where the certificates are obtained.
        directory: Option<DirectoryName>;
        /// How the names are proved.
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
                None => "`acme.directories` has none: there is nobody to obtain a certificate from"
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
                "`on_demand` takes dns-01, and nothing says how records get into zones",
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
