//! How what is stored is called in answers.

use std::{fmt::Write as _, net::IpAddr};

use control_api::answer::OTHER_CLIENTS;
use control_api::{place::NetworkName, state::PublicKey};
use rusqlite::{Error, Row, types::Type};

/// A network by its columns `name` and `public_key`: its key, or else `port:PORT` or its name.
pub(crate) fn network_label(row: &Row<'_>, first: usize) -> rusqlite::Result<String> {
    if let Some(key) = peer_text(row, first + 1)? {
        return Ok(key);
    }
    let name: String = row.get(first)?;
    Ok(match name.parse() {
        Ok(NetworkName::Port(port)) => format!("port:{port}"),
        Ok(NetworkName::Host | NetworkName::Netns(_)) | Err(_) => name,
    })
}

/// A key in base64.
pub(crate) fn key_text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(key(row, column)?.to_string())
}

/// A key, which is stored as its bytes.
pub(crate) fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<PublicKey> {
    let bytes: [u8; 32] = row.get(column)?;
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A string takes everything.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.parse()
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error)))
}

/// A key in base64, unless the column is empty.
pub(crate) fn peer_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(peer_key(row, column)?.map(|key| key.to_string()))
}

/// A key, unless the column is empty.
pub(crate) fn peer_key(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PublicKey>> {
    match row.get_ref(column)?.as_blob()? {
        [] => Ok(None),
        _ => key(row, column).map(Some),
    }
}

/// A client's address, unless it stands for all the others.
pub(crate) fn client(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<IpAddr>> {
    let bytes = row.get_ref(column)?.as_blob()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(bytes), _) => Ok(Some(IpAddr::from(bytes))),
        (Err(_), Ok(bytes)) => Ok(Some(IpAddr::from(bytes))),
        (Err(_), Err(error)) => {
            let error = Box::new(error);
            Err(Error::FromSqlConversionFailure(column, Type::Blob, error))
        }
    }
}

/// A client's address, or the word for all the others.
pub(crate) fn client_text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let client = client(row, column)?;
    Ok(client.map_or_else(|| OTHER_CLIENTS.to_owned(), |client| client.to_string()))
}
