//! Records for dns-01 (RFC 8555 section 8.4): into a zone by an update, or by a program.

mod hook;
mod update;

use std::{path::Path, time::Duration};

use control_api::boot::{self, CertificateName};
use tokio::time::sleep;

use self::{
    hook::Hook,
    update::{Change, PREFIX, Zone},
};
pub(crate) use self::{hook::HookError, update::UpdateError};

/// Why a record could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// By an update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// By the program.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// By neither: the boot file was checked for what is declared, not for what clients ask for.
    #[error("neither a zone of `acme.dns` holds {name}, nor is there a hook")]
    Unreachable {
        /// The name.
        name: String,
    },
}

/// Where records go.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    zones: Vec<(boot::Zone, Zone)>,
    hook: Option<Hook>,
    wait: Duration,
}

impl Records {
    /// As the boot file says. Names of files begin at `folder`.
    pub(crate) fn new(declared: &boot::Dns, folder: &Path) -> Self {
        let zones = declared.zones.iter().flatten();
        let hook = declared.hook.as_deref();
        Self {
            zones: zones
                .map(|zone| (zone.zone.clone(), Zone::new(zone, folder)))
                .collect(),
            hook: hook.map(|hook| Hook::new(hook, folder, declared.hook_timeout)),
            wait: declared.propagation_wait,
        }
    }

    /// Adds a name's record, and waits until others will see it.
    pub(crate) async fn add(&self, name: &CertificateName, text: &str) -> Result<(), RecordError> {
        self.change(Change::Add, name, text).await?;
        sleep(self.wait).await;
        Ok(())
    }

    /// Removes a name's record.
    pub(crate) async fn remove(
        &self,
        name: &CertificateName,
        text: &str,
    ) -> Result<(), RecordError> {
        self.change(Change::Remove, name, text).await
    }

    async fn change(
        &self,
        change: Change,
        name: &CertificateName,
        text: &str,
    ) -> Result<(), RecordError> {
        let domain = name.domain();
        let holding = self.zones.iter().filter(|(zone, _)| zone.holds(domain));
        let zone = holding.max_by_key(|(zone, _)| zone.as_str().len());
        if let Some((_, zone)) = zone {
            let now = crate::clock::now();
            return Ok(zone.change(change, domain, text, now).await?);
        }
        let Some(hook) = &self.hook else {
            return Err(RecordError::Unreachable {
                name: name.to_string(),
            });
        };
        let record = format!("{PREFIX}.{domain}");
        Ok(hook.change(change, &record, text).await?)
    }
}
