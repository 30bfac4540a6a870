//! The REST API: where it listens, who may speak with it, and its bounds.

mod credential;
mod listen;
mod token;

use std::{
    collections::HashSet,
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

pub use credential::{Credential, Role, Secret};
pub use listen::{ApiListen, ApiListenError};
pub use token::{
    TOKEN_BYTES_MAX, TOKEN_BYTES_WEAK, Token, TokenError, TokenFile, TokenFileError, TokenName,
    TokenNameError,
};

use crate::{
    document::Spot,
    problem::Problems,
    section::{Check, section},
    unit::ByteSize,
};

/// Most tokens: every attempt is compared with all of them.
pub const TOKENS_MAX: usize = 1000;

section! {
    /// The REST API.
    pub struct Api {
        /// The address of the API. `unix:/path` makes a socket for its owner and group. An address
        /// beyond loopback requires a token.
        listen: ApiListen = "127.0.0.1:8080";
        /// The token of an admin. If no token is configured, every client of the API is an admin.
        token: Option<Token>, reload;
        /// The file with the token of an admin. A name without a folder is looked up in systemd's
        /// credentials first.
        token_file: Option<TokenFile>, reload;
        /// More tokens, each with a name for the audit log.
        tokens: Option<Vec<NamedToken>>, reload;
        /// Limits of the API.
        limits: ApiLimits;
        /// Limits for the number of series in `/metrics`.
        metrics: MetricsLimits;
    }
}

section! {
    /// A token, who has it, and what it is good for.
    pub struct NamedToken {
        /// The name of its owner in the audit log.
        name: TokenName, reload;
        /// The role: `reader` sees everything but secrets, `operator` also changes the state,
        /// `admin` also sees secrets.
        role: Role, reload;
        /// The token.
        token: Option<Token>, reload;
        /// The file with the token. A name without a folder is looked up in systemd's credentials
        /// first.
        token_file: Option<TokenFile>, reload;
    }
}

section! {
    /// Limits of the API.
    pub struct ApiLimits {
        /// Maximum concurrent connections. Above it, a new connection replaces one that has not
        /// sent a whole request.
        connections_max: NonZeroU32 = "256" in "4"..="65536";
        /// Maximum concurrent connections of one source prefix (an IPv4 address, or an IPv6 /64).
        /// Above it, a new connection replaces one as above, or is closed if all are being
        /// answered.
        connections_per_source_max: NonZeroU32 = "128" in "1"..="65536";
        /// Maximum bytes of the first line and headers of a request.
        header_bytes_max: ByteSize = "16KiB" in "8KiB"..="1MiB";
        /// Maximum headers of a request.
        headers_max: NonZeroU16 = "64" in "8"..="1024";
        /// Timeout for the headers of a request, and between two requests.
        header_timeout: Duration = "10s" in "10ms"..="5m";
        /// Maximum bytes of a request body, such as a state document.
        body_bytes_max: ByteSize = "32MiB" in "1KiB"..="256MiB";
        /// Timeout for the body of a request.
        body_timeout: Duration = "30s" in "10ms"..="5m";
        /// Timeout for a response, including `wait=true` and the changes before it. A change that
        /// has not begun by then is not made.
        request_timeout: Duration = "60s" in "100ms"..="10m";
        /// Maximum clients that follow events.
        event_clients_max: NonZeroU16 = "64" in "1"..="4096";
        /// Wrong tokens of one source prefix within `failures_window`, after which further wrong
        /// tokens are answered 429. Right tokens are always accepted.
        failures_max: NonZeroU16 = "10" in "1"..="1000";
        /// How long a wrong token counts.
        failures_window: Duration = "1m" in "1s"..="1d";
    }
}

section! {
    /// Limits for the number of series in `/metrics`.
    pub struct MetricsLimits {
        /// Peers with their own series. The peers of networks beyond the limit are in the sums
        /// only.
        peers_max: u32 = "1000" in "0"..="1000000";
        /// Routes with their own series. The routes of networks beyond the limit are in the sums
        /// only.
        routes_max: u32 = "1000" in "0"..="1000000";
        /// Networks with their own series. Networks beyond the limit are in the sum of all.
        networks_max: u32 = "1000" in "0"..="65535";
        /// Certificates with their own series: the ones that expire first.
        certificates_max: u32 = "1000" in "0"..="1000000";
    }
}

impl Check for Api {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.token.is_some() && self.token_file.is_some() {
            spot.error_with_hint(
                problems,
                "`token` and `token_file` are both written, and either is the one admin's token",
                "list several tokens under `tokens`",
            );
        }
        let tokens = self.tokens.as_deref().unwrap_or_default();
        if tokens.len() > TOKENS_MAX {
            spot.error(problems, format_args!("more than {TOKENS_MAX} tokens"));
        }
        let mut names = HashSet::from([TokenName::ADMIN]);
        for NamedToken { name, .. } in tokens {
            if !names.insert(name.as_str()) {
                spot.error_with_hint(
                    problems,
                    format_args!("two tokens have the name `{name}`"),
                    "`admin` is the name of the one in `token` or `token_file`",
                );
            }
        }
        if self.listen.is_beyond_loopback() && self.credentials().next().is_none() {
            spot.error_with_hint(
                problems,
                format_args!(
                    "{} can be reached from other machines, and no token is configured",
                    self.listen
                ),
                "write `token_file`, or listen on 127.0.0.1:8080 or unix:/run/ringway/api.sock",
            );
        }
    }
}

impl Check for NamedToken {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.token.is_some() == self.token_file.is_some() {
            spot.error(problems, "either `token` or `token_file` is needed");
        }
    }
}

impl Check for ApiLimits {}

impl Check for MetricsLimits {}

impl Api {
    /// Every token, in the order of the file.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        let direct = Secret::either(self.token.as_ref(), self.token_file.as_ref());
        let direct = direct.map(|secret| Credential {
            name: TokenName::admin(),
            role: Role::Admin,
            secret,
        });
        let named = self.tokens.iter().flatten().filter_map(|token| {
            Some(Credential {
                name: token.name.clone(),
                role: token.role,
                secret: Secret::either(token.token.as_ref(), token.token_file.as_ref())?,
            })
        });
        direct.into_iter().chain(named)
    }
}
