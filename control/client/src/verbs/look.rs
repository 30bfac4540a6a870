//! The verbs that only look: `config`, `status`, `certificates`, `traffic`, `generations` and `audit`.

use std::time::Duration;

use control_api::{
    answer::{
        AuditEntries, CertificateState, Certificates, Generations, NetworkState, Reason,
        RoutesTraffic, Status, TrafficInfo,
    },
    state::PublicKey,
};
use serde::de::DeserializeOwned;

use super::reach;
use crate::{
    api::{Answer, Api, Call, Query},
    console::{Console, note, now},
    error::{VerbError, chain},
    exit::Exit,
    show::{self, Shown},
    verb::{
        AuditArgs, CertificatesArgs, ConfigArgs, Group, ListArgs, Reach, StatusArgs, TrafficArgs,
        Watch,
    },
};

/// Prints the desired state.
pub(crate) async fn config(args: &ConfigArgs, console: &Console) -> Result<Exit, VerbError> {
    let secrets = args.secrets.then_some("true");
    let target = Query::default()
        .with_some("secrets", secrets)
        .of(&args.owners)
        .after("/api/v1/config");
    let answer = reach(&args.reach)?.call(Call::get(target)).await?;
    let written = match console.json {
        true => console.write_raw(&answer.body),
        false => {
            let document: serde_json::Value = answer.read()?;
            console.write(&format!("{document:#}\n"))
        }
    };
    written.map_err(VerbError::Output)?;
    Ok(Exit::Done)
}

/// Shows desired against actual.
pub(crate) async fn status(args: &StatusArgs, console: &Console) -> Result<Exit, VerbError> {
    let wanted = args.network.as_deref();
    let show = |answer: &Status| {
        let shown = shown(answer, wanted)?;
        let exit = health(answer, shown);
        Ok((show::status(answer, shown, now(), console.paint), exit))
    };
    let target = "/api/v1/status".to_owned();
    look(&args.reach, &args.watch, target, console, show).await
}

/// The most that the API answers at once.
const CERTIFICATES_MAX: usize = 100_000;

/// Lists the certificates, or shows those for a name.
pub(crate) async fn certificates(
    args: &CertificatesArgs,
    console: &Console,
) -> Result<Exit, VerbError> {
    let port = args.network.map(|port| port.to_string());
    let target = Query::default()
        .with("limit", &CERTIFICATES_MAX.to_string())
        .with_some("name", args.name.as_deref())
        .with_some("network", port.as_deref())
        .with_some("state", args.state.as_deref())
        .after("/api/v1/certificates");
    let show = |answer: &Certificates| {
        let text = match &args.name {
            Some(name) if answer.certificates.is_empty() => {
                return Err(VerbError::Certificate(name.clone()));
            }
            Some(_) => show::certificates_in_full(answer, now(), console.paint),
            None => show::certificates(answer, now(), console.paint),
        };
        let mut states = answer.certificates.iter().map(|it| it.state);
        let exit = match states.all(is_served) {
            true => Exit::Done,
            false => Exit::Different,
        };
        Ok((text, exit))
    };
    look(&args.reach, &args.watch, target, console, show).await
}

/// Whether `status` has nothing to say of a certificate in this state.
fn is_served(state: CertificateState) -> bool {
    match state {
        CertificateState::Ok | CertificateState::Stale => true,
        CertificateState::Pending | CertificateState::Failed | CertificateState::Expired => false,
    }
}

/// Shows the accounts.
pub(crate) async fn traffic(args: &TrafficArgs, console: &Console) -> Result<Exit, VerbError> {
    let unix = |since: Option<crate::since::Since>| since.map(|at| at.unix(now()).to_string());
    let group = args.group.map(|group| match group {
        Group::Hour => "hour",
        Group::Day => "day",
    });
    let query = Query::default()
        .with_some("since", unix(args.since).as_deref())
        .with_some("until", unix(args.until).as_deref())
        .with_some("network", args.network.as_deref())
        .with_some("peer", args.peer.as_deref())
        .with_some("group", group);
    let times = args.group.is_some();
    if args.routes {
        let target = query.after("/api/v1/traffic/routes");
        let show = |answer: &RoutesTraffic| {
            let text = show::routes_traffic(answer, times, console.paint);
            Ok((text, Exit::Done))
        };
        return look(&args.reach, &args.watch, target, console, show).await;
    }
    let target = query.after("/api/v1/traffic");
    let show = |answer: &TrafficInfo| {
        let text = show::traffic(answer, times, console.paint);
        Ok((text, Exit::Done))
    };
    look(&args.reach, &args.watch, target, console, show).await
}

/// Lists the generations.
pub(crate) async fn generations(args: &ListArgs, console: &Console) -> Result<Exit, VerbError> {
    let show =
        |answer: &Generations| Ok((show::generations(answer, now(), console.paint), Exit::Done));
    let target = Query::default()
        .with_some("owner", args.owner.as_deref())
        .after("/api/v1/generations");
    look(&args.reach, &args.watch, target, console, show).await
}

/// Shows the audit log.
pub(crate) async fn audit(args: &AuditArgs, console: &Console) -> Result<Exit, VerbError> {
    let target = Query::default()
        .with("limit", &args.limit.to_string())
        .after("/api/v1/audit");
    let show = |answer: &AuditEntries| Ok((show::audit(answer, console.paint), Exit::Done));
    look(&args.reach, &args.watch, target, console, show).await
}

/// Asks and shows, once or again and again. While watching, a gateway that cannot be reached is
/// waited for.
async fn look<T: DeserializeOwned>(
    reach: &Reach,
    watch: &Watch,
    target: String,
    console: &Console,
    show: impl Fn(&T) -> Result<(String, Exit), VerbError>,
) -> Result<Exit, VerbError> {
    let api = super::reach(reach)?;
    let Some(seconds) = watch.watch else {
        return once(&api, &target, console, &show).await;
    };
    loop {
        match once_more(&api, &target, console, &show).await {
            Ok(()) => {}
            Err(error) if error.exit() == Exit::Unreachable => note(&chain(&error)),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

async fn once<T: DeserializeOwned>(
    api: &Api,
    target: &str,
    console: &Console,
    show: impl Fn(&T) -> Result<(String, Exit), VerbError>,
) -> Result<Exit, VerbError> {
    let answer = api.call(Call::get(target)).await?;
    let (text, exit) = show(&answer.read()?)?;
    print(&answer, &text, console)?;
    Ok(exit)
}

async fn once_more<T: DeserializeOwned>(
    api: &Api,
    target: &str,
    console: &Console,
    show: impl Fn(&T) -> Result<(String, Exit), VerbError>,
) -> Result<(), VerbError> {
    let answer = api.call(Call::get(target)).await?;
    let (text, _) = show(&answer.read()?)?;
    console.clear().map_err(VerbError::Output)?;
    print(&answer, &text, console)
}

fn print(answer: &Answer, text: &str, console: &Console) -> Result<(), VerbError> {
    let written = match console.json {
        true => console.write_raw(&answer.body),
        false => console.write(text),
    };
    written.map_err(VerbError::Output)
}

/// What of the status is wanted: a port, a name or a public key tells one network.
fn shown(answer: &Status, wanted: Option<&str>) -> Result<Shown, VerbError> {
    let Some(wanted) = wanted else {
        return Ok(Shown::All);
    };
    let key = wanted.parse::<PublicKey>().ok();
    let found = answer.networks.iter().find(|(port, network)| {
        port.to_string() == wanted
            || network.name == wanted
            || key.is_some() && network.public_key == key
    });
    if let Some((port, _)) = found {
        return Ok(Shown::Network(*port));
    }
    let mut refused = answer.degraded.iter().filter_map(|it| {
        let port = it.network.filter(|_| it.reason == Reason::NetworkRefused);
        port.filter(|port| it.object == wanted || port.to_string() == wanted)
    });
    match refused.next() {
        Some(port) => Ok(Shown::Refused(port)),
        None => Err(VerbError::Network(wanted.to_owned())),
    }
}

fn health(answer: &Status, shown: Shown) -> Exit {
    let degraded = match shown {
        Shown::All => !answer.degraded.is_empty(),
        Shown::Refused(_) => true,
        Shown::Network(port) => {
            let network = answer.networks.get(&port);
            network.is_some_and(|network| network.state == NetworkState::Degraded)
                || answer.degraded.iter().any(|it| it.network == Some(port))
        }
    };
    match degraded {
        true => Exit::Different,
        false => Exit::Done,
    }
}
