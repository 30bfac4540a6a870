//! What each verb does.

mod change;
mod compare;
mod events;
mod look;

pub(crate) use self::{
    change::{apply, diff, rollback},
    events::events,
    look::{audit, config, generations, status, traffic},
};

use crate::{
    api::{Address, Api, Token, TokenError},
    verb::Reach,
};

/// The API that the command line names.
///
/// # Errors
/// When a token is named and cannot be had.
pub(crate) fn reach(reach: &Reach) -> Result<Api, TokenError> {
    let token = Token::find(reach.token_file.as_deref(), reach.api.is_none())?;
    Ok(Api {
        address: reach.api.clone().unwrap_or_else(Address::find),
        token,
        timeout: reach.timeout,
    })
}

#[cfg(test)]
mod tests;
