//! Who is asked for the names of a network's targets.

use std::net::{IpAddr, SocketAddr};

use engine_core::endpoint::Endpoint;

use super::{Namespace, Network};
use crate::{document::Spot, problem::Problems, word::printable};

/// Most name servers of a network.
pub const NAME_SERVERS_MAX: usize = 3;

/// Where a name server listens that is written without a port.
const PORT: u16 = 53;

pub(super) fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Vec<SocketAddr>> {
    let items = spot.items(problems)?;
    if items.len() > NAME_SERVERS_MAX {
        spot.error(
            problems,
            format_args!("a network has at most {NAME_SERVERS_MAX} name servers"),
        );
        return None;
    }
    let (mut servers, mut complete) = (Vec::new(), true);
    for item in items {
        match read_server(&item, problems) {
            Some(server) => servers.push(server),
            None => complete = false,
        }
    }
    complete.then_some(servers)
}

fn read_server(spot: &Spot<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let text = spot.text(problems)?;
    let alone = || {
        text.parse()
            .ok()
            .map(|ip: IpAddr| SocketAddr::new(ip, PORT))
    };
    let server = text.parse().ok().or_else(alone);
    let server = server.filter(|server| server.port() != 0 && !server.ip().is_unspecified());
    if server.is_none() {
        let message = format!("`{}` is no name server", printable(text));
        spot.error_with_hint(problems, message, "write its address as `ip:port` or `ip`");
    }
    server
}

/// In a namespace of its own a network has no name servers but those that it names.
pub(super) fn check(network: &Network, spot: &Spot<'_>, problems: &mut Problems) {
    if network.namespace == Namespace::Host || !network.dns.is_empty() {
        return;
    }
    let is_name = |endpoint: &&Endpoint| endpoint.address().is_none();
    if let Some(name) = network.endpoints().find(is_name) {
        spot.error_with_hint(
            problems,
            format_args!("`{name}` is a name, and the network has no name server"),
            "write for example \"dns\": [\"10.0.0.53:53\"]",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::state::parse;

    fn written(network: Value) -> Result<Value, Vec<String>> {
        let document = json!({ "1": network }).to_string();
        let texts = |problems: crate::Problems| -> Vec<String> {
            problems.iter().map(ToString::to_string).collect()
        };
        let desired = parse(&document).map_err(texts)?.value;
        Ok(desired.render_masked()["1"].clone())
    }

    fn routed(target: &str) -> Value {
        json!({ "netns": null, "dns": ["10.0.0.53", "[fd00::53]:5353"], "proxy": {
            "http://a.example": [target],
        }, "routes": [{ "host": "b.example", "to": [format!("https://{target}")] }] })
    }

    #[test]
    fn names_and_name_servers_are_read_and_written() {
        let network = written(routed("Web.Internal.:8080")).unwrap();
        assert_eq!(network["dns"], json!(["10.0.0.53:53", "[fd00::53]:5353"]));
        assert_eq!(
            network["proxy"]["http://a.example"],
            json!(["web.internal:8080"])
        );
        assert_eq!(
            network["routes"][0]["to"],
            json!(["https://web.internal:8080"])
        );
        assert_eq!(written(network.clone()).unwrap(), network);
    }

    #[test]
    fn a_name_needs_a_name_server_but_in_the_hosts_namespace() {
        let proxy = json!({ "http://a.example": ["web.internal:80"] });
        let without = |netns: Value| written(json!({ "netns": netns, "proxy": proxy }));
        assert!(without(Value::Null).is_ok());
        let problems = without("blue".into()).unwrap_err();
        assert!(
            problems[0].contains("`web.internal:80` is a name, and the network has no name server"),
            "{problems:?}"
        );
        let network = json!({ "netns": "blue", "dns": ["10.0.0.53"], "proxy": proxy });
        assert!(written(network).is_ok());
    }

    #[test]
    fn what_is_no_name_server_is_refused() {
        for dns in [
            json!(["ns.example"]),
            json!(["0.0.0.0"]),
            json!(["10.0.0.53:0"]),
            json!([53]),
            json!("10.0.0.53"),
            json!(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]),
        ] {
            assert!(
                written(json!({ "netns": null, "dns": dns })).is_err(),
                "{dns}"
            );
        }
    }
}
