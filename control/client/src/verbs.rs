//! What each verb does.

mod change;
mod compare;
mod events;
mod look;

pub(crate) use self::{
    change::{apply, diff, rollback},
    events::events,
    look::{audit, certificates, config, generations, status, traffic},
};

use crate::{
    api::{Address, Api, Query, Token, TokenError},
    verb::{Everybody, Owners, Reach},
};

/// The API that the command line names.
///
/// # Errors
/// When a token is named and cannot be had.
pub(crate) fn reach(reach: &Reach) -> Result<Api, TokenError> {
    let address = reach.api.clone().unwrap_or_else(Address::find);
    // Any user may listen on the default port while the gateway does not; only the gateway makes
    // that socket.
    let is_installed = reach.api.is_none() && matches!(address, Address::Unix(_));
    let token = Token::find(reach.token_file.as_deref(), is_installed)?;
    Ok(Api::new(address, token, reach.timeout))
}

impl Query {
    /// With whose part of the desired state is meant.
    pub(crate) fn of(self, owners: &Owners) -> Self {
        let all = owners.owners.map(|Everybody::All| "all");
        self.with_some("owner", owners.owner.as_deref())
            .with_some("owners", all)
    }
}

#[cfg(test)]
mod tests;
