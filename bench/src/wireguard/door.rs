//! A way past a gateway's firewall, for the moment in which a measure's flows begin.
//!
//! Nothing may open connections into a tenant's namespace: its table drops what is not an answer, and
//! a gateway that finds the table changed writes it anew (about 60 ms later). A server in there is
//! only reached in between. What has been opened then goes on, as any connection of the gateway's
//! does: tracked, and through the table as it should be.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use super::{end::End, inside};
use crate::process::tied;

/// Time between two openings: less than a gateway takes to write its table anew.
const OPEN_EVERY: Duration = Duration::from_millis(20);

/// Does `work` while the door to the tenant of `end` is open, until the work sets the flag that it
/// is given. A tenant without a firewall has no door.
///
/// # Errors
/// What the work says.
pub(crate) fn open_for<T>(end: &End, work: impl FnOnce(&AtomicBool) -> Result<T>) -> Result<T> {
    let begun = AtomicBool::new(end.listener().is_none());
    thread::scope(|scope| {
        let door = scope.spawn(|| hold(end, &begun));
        let result = work(&begun);
        begun.store(true, Ordering::Relaxed);
        match door.join() {
            Ok(held) => held.and(result),
            Err(_) => bail!("the door's keeper panicked"),
        }
    })
}

fn hold(end: &End, begun: &AtomicBool) -> Result<()> {
    while !begun.load(Ordering::Relaxed) {
        let tenant = end.tenant.clone();
        end.sandbox.run(move || {
            let mut nft = std::process::Command::new("nft");
            nft.args(["insert", "rule", "inet", "ringway", "input", "accept"]);
            // It fails when the gateway writes the table at this very moment: the next one does not.
            let _ = tied(&inside(&tenant, &nft)).output();
            Ok(())
        })?;
        thread::sleep(OPEN_EVERY);
    }
    Ok(())
}
