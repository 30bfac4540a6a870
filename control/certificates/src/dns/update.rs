//! Records by dynamic update (RFC 2136), signed with a shared key (TSIG, RFC 8945).

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use control_api::boot::{self, TsigAlgorithm};
use engine_core::hostname::Hostname;
use hickory_proto::{
    ProtoError,
    dnssec::DnsSecError,
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner,
        rdata::{TXT, tsig},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::reading;

/// How long a server may take, from the connection to the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How far both clocks may be apart, in seconds (RFC 8945 section 10, "Fudge").
const FUDGE: u16 = 300;
/// How long others may keep the record, in seconds: it is of no use before long.
const TTL: u32 = 60;
/// What is in front of a name whose record it is (RFC 8555 section 8.4).
pub(super) const PREFIX: &str = "_acme-challenge";

/// Whether a record comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// Why a record could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// The file with the key cannot be read.
    #[error("reading the key in {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What is in it is no key.
    #[error("{} holds no key in base64", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: base64::DecodeError,
    },
    /// The key is of no use.
    #[error("signing with the key {key}")]
    Sign {
        /// Its name.
        key: String,
        /// What is wrong.
        source: DnsSecError,
    },
    /// A name is too long to have a record.
    #[error("writing the update for {name}")]
    Write {
        /// The name.
        name: String,
        /// What is wrong.
        source: ProtoError,
    },
    /// The server cannot be reached.
    #[error("asking the server of {zone}")]
    Exchange {
        /// The zone.
        zone: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It took too long.
    #[error("the server of {zone} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// The zone.
        zone: String,
    },
    /// The answer is not the server's.
    #[error("verifying the answer of the server of {zone}")]
    Verify {
        /// The zone.
        zone: String,
        /// What is wrong.
        source: ProtoError,
    },
    /// The server does not do it.
    #[error("the server of {zone} refuses the update: {code}")]
    Refused {
        /// The zone.
        zone: String,
        /// Why.
        code: ResponseCode,
    },
}

/// A zone whose server takes updates.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    declared: boot::DnsZone,
    key_file: PathBuf,
}

impl Zone {
    /// The zone, with the key's file named from `folder`.
    pub(super) fn new(declared: &boot::DnsZone, folder: &Path) -> Self {
        Self {
            declared: declared.clone(),
            key_file: folder.join(&declared.key_file),
        }
    }

    /// Adds the record of a name, or removes it. `now` is the Unix time that is signed.
    pub(super) async fn change(
        &self,
        change: Change,
        name: &Hostname,
        text: &str,
        now: u64,
    ) -> Result<(), UpdateError> {
        let zone = self.declared.zone.to_string();
        let (request, mut verifier) = self.request(change, name, text, now).await?;
        let Ok(exchanged) = timeout(TIMEOUT, self.exchange(&request)).await else {
            return Err(UpdateError::Timeout { zone });
        };
        let answer = exchanged.map_err(|source| UpdateError::Exchange {
            zone: zone.clone(),
            source,
        })?;
        let verified = verifier.verify(&answer);
        // A server that does not know the key cannot sign, and says so in the code.
        let code = match (verified, Message::from_vec(&answer)) {
            (Ok(answer), _) => answer.response_code,
            (Err(_), Ok(answer)) if answer.response_code != ResponseCode::NoError => {
                answer.response_code
            }
            (Err(source), _) => return Err(UpdateError::Verify { zone, source }),
        };
        if code == ResponseCode::NoError {
            Ok(())
        } else {
            Err(UpdateError::Refused { zone, code })
        }
    }

    async fn request(
        &self,
        change: Change,
        name: &Hostname,
        text: &str,
        now: u64,
    ) -> Result<(Vec<u8>, TSigVerifier), UpdateError> {
        let write = |source| UpdateError::Write {
            name: name.to_string(),
            source,
        };
        let signer = self.signer().await?;
        let mut message = message(&self.declared.zone, change, name, text).map_err(write)?;
        let verifier = message.finalize(&signer, now).map_err(write)?;
        let verifier = verifier.ok_or_else(|| write(ProtoError::from("it was not signed")))?;
        Ok((message.to_vec().map_err(write)?, verifier))
    }

    /// Reads the key anew each time: it may have been replaced.
    async fn signer(&self) -> Result<TSigner, UpdateError> {
        let path = || self.key_file.clone();
        let text = reading::text(&self.key_file, reading::KEY_BYTES_MAX).await;
        let text = text.map_err(|source| UpdateError::KeyFile {
            path: path(),
            source,
        })?;
        let key = STANDARD.decode(text.trim());
        let key = key.map_err(|source| UpdateError::Key {
            path: path(),
            source,
        })?;
        let algorithm = match self.declared.key_algorithm {
            TsigAlgorithm::HmacSha256 => tsig::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => tsig::TsigAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        let name = &self.declared.key_name;
        let owner = Name::from_ascii(format!("{name}."));
        let owner = owner.map_err(|source| UpdateError::Write {
            name: name.to_string(),
            source,
        })?;
        TSigner::new(key, algorithm, owner, FUDGE).map_err(|source| UpdateError::Sign {
            key: name.to_string(),
            source,
        })
    }

    /// One message each way over TCP, each after its length (RFC 1035 section 4.2.2).
    async fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.declared.server).await?;
        let length = u16::try_from(request.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(request);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

fn message(
    zone: &boot::Zone,
    change: Change,
    name: &Hostname,
    text: &str,
) -> Result<Message, ProtoError> {
    let id = u16::from_be_bytes(crate::random::bytes());
    let mut message = Message::new(id, MessageType::Query, OpCode::Update);
    let mut query = Query::new();
    query
        .set_name(Name::from_ascii(format!("{zone}."))?)
        .set_query_class(DNSClass::IN)
        .set_query_type(RecordType::SOA);
    message.add_query(query);
    let owner = Name::from_ascii(format!("{PREFIX}.{name}."))?;
    let data = RData::TXT(TXT::new(vec![text.to_owned()]));
    // To be removed is the one record with this text, and no other (RFC 2136 section 2.5.4).
    let record = match change {
        Change::Add => Record::from_rdata(owner, TTL, data),
        Change::Remove => {
            let mut record = Record::from_rdata(owner, 0, data);
            record.dns_class = DNSClass::NONE;
            record
        }
    };
    message.add_authority(record);
    Ok(message)
}

#[cfg(test)]
mod tests;
