use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use engine_core::{
    balance::{Balance as Shared, Load},
    hostname::HostPattern,
    ids::{NetnsId, NetworkId},
    snapshot::{Network, Target},
};
use proptest::prelude::*;

use super::*;
use crate::health::{Check, Probe};

fn route(label: &str, targets: usize) -> Arc<Route> {
    let network = Network {
        id: NetworkId(1),
        name: "network-1".into(),
        netns: NetnsId(0),
        live: Load::default(),
    };
    let target = Target::new("10.0.0.2:80".parse::<SocketAddr>().unwrap());
    Arc::new(Route {
        id: RouteId(0),
        label: label.into(),
        network: network.into(),
        targets: vec![target; targets],
        balance: Shared::default(),
    })
}

fn rule(id: u32, label: &str) -> Rule {
    Rule {
        id: RouteId(id),
        route: route(label, 1),
        action: Action::Proxy,
        policy: Arc::default(),
    }
}

fn by(host: &str, path: &str) -> Match {
    Match {
        scheme: None,
        host: (!host.is_empty()).then(|| HostPattern::parse(host).unwrap()),
        path: path.into(),
        methods: Vec::new(),
        fields: Vec::new(),
    }
}

/// A table of rules that are called after what they are found by.
fn table(matches: &[Match]) -> Table {
    let mut builder = TableBuilder::new();
    for (id, found_by) in (0..).zip(matches) {
        let host = found_by.host.as_ref().map(ToString::to_string);
        let label = format!(
            "{}{}{}{}",
            host.unwrap_or_default(),
            found_by.path,
            found_by.methods.concat(),
            found_by
                .fields
                .iter()
                .map(|it| it.name.as_str())
                .collect::<String>(),
        );
        builder.rule(found_by.clone(), rule(id, &label));
    }
    builder.build().unwrap()
}

fn find(table: &Table, host: &str, path: &str, method: Method<'_>, lines: &str) -> String {
    let host = Host::parse(host.as_bytes());
    match table.find_parts(
        (Scheme::Http, host),
        path,
        method,
        Fields::checked(lines.as_bytes()),
    ) {
        Found::Rule(matched) => matched.rule.route.label.to_string(),
        Found::NoRule(none) => none.label().into(),
        Found::Refused(refusal) => refusal.label().into(),
    }
}

#[test]
fn the_host_decides_first_then_the_longest_path_then_conditions_then_order() {
    let header = |expected| Condition {
        name: "X-Beta".into(),
        expected,
    };
    let table = table(&[
        by("a.example", "/"),
        by("a.example", "/api"),
        Match {
            fields: vec![header(Expected::Exact("1".into()))],
            ..by("a.example", "/api")
        },
        Match {
            methods: vec!["POST".into()],
            fields: vec![header(Expected::Present)],
            ..by("a.example", "/api")
        },
        by("a.example", "/api/v1/"),
        by("*.example", "/w"),
        by("*.b.example", "/"),
        by("", "/any"),
    ]);
    let get = Method::Get;
    for (host, path, method, lines, expected) in [
        ("a.example", "/", get, "", "a.example/"),
        ("A.EXAMPLE.:80", "/api", get, "", "a.example/api"),
        ("a.example", "/api/x", get, "", "a.example/api"),
        ("a.example", "/apix", get, "", "a.example/"),
        (
            "a.example",
            "/api",
            get,
            "x-beta: 1\r\n",
            "a.example/apiX-Beta",
        ),
        ("a.example", "/api", get, "x-beta: 2\r\n", "a.example/api"),
        (
            "a.example",
            "/api",
            get,
            "x-beta: 2\r\nX-Beta: 1\r\n",
            "a.example/apiX-Beta",
        ),
        (
            "a.example",
            "/api",
            Method::Post,
            "x-beta: 1\r\n",
            "a.example/apiPOSTX-Beta",
        ),
        ("a.example", "/api", Method::Post, "", "a.example/api"),
        ("a.example", "/api/v1/x", get, "", "a.example/api/v1/"),
        ("a.example", "/api/v1", get, "", "a.example/api/v1/"),
        ("a.example", "*", Method::Options, "", "a.example/"),
        ("x.example", "/w/x", get, "", "*.example/w"),
        ("x.example", "/any", get, "", "no_match"),
        ("x.b.example", "/w", get, "", "*.b.example/"),
        ("example", "/any/x", get, "", "/any"),
        ("10.0.0.1", "/any", get, "", "/any"),
        ("", "/any", get, "", "/any"),
        ("other", "/", get, "", "no_match"),
    ] {
        assert_eq!(
            find(&table, host, path, method, lines),
            expected,
            "{host}{path} {lines}"
        );
    }
    assert!(table.has_host("x.y.example") && !table.has_host("example"));
}

#[test]
fn a_rule_of_a_directory_takes_its_path_without_the_slash_unless_a_rule_has_that_path() {
    let table = table(&[
        by("a", "/"),
        by("a", "/admin/"),
        by("a", "/both/"),
        by("a", "/both"),
        Match {
            methods: vec!["POST".into()],
            ..by("a", "/some/")
        },
        by("b", "/only/"),
    ]);
    for (host, path, expected) in [
        ("a", "/admin", "a/admin/"),
        ("a", "/admin/x", "a/admin/"),
        ("a", "/admins", "a/"),
        ("a", "/%61dmin", "a/admin/"),
        ("a", "/admin;x", "ambiguous_path"),
        ("a", "/both", "a/both"),
        ("a", "/both/", "a/both/"),
        ("a", "/some", "a/"),
        ("b", "/only", "b/only/"),
        ("b", "/", "no_match"),
    ] {
        assert_eq!(
            find(&table, host, path, Method::Get, ""),
            expected,
            "{host}{path}"
        );
    }
    let only = (Scheme::Http, Host::parse(b"b"));
    let found = table.find_parts(only, "/only", Method::Get, Fields::NONE);
    assert!(matches!(found, Found::Rule(matched) if matched.prefix_len == "/only".len()));
}

#[test]
fn a_rule_for_get_takes_head_unless_another_one_as_specific_names_it() {
    let with = |methods: &[&str], path| Match {
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        ..by("a", path)
    };
    let table = table(&[
        by("a", "/"),
        with(&["GET"], "/one"),
        with(&["GET"], "/two"),
        with(&["POST", "HEAD"], "/two"),
        with(&["POST"], "/three"),
    ]);
    for (path, method, expected) in [
        ("/one", Method::Get, "a/oneGET"),
        ("/one", Method::Head, "a/oneGET"),
        ("/one", Method::Post, "a/"),
        ("/two", Method::Head, "a/twoPOSTHEAD"),
        ("/two", Method::Get, "a/twoGET"),
        ("/three", Method::Head, "a/"),
    ] {
        assert_eq!(find(&table, "a", path, method, ""), expected, "{path}");
    }
}

#[test]
fn a_condition_sees_a_field_in_every_spelling_that_upstreams_read_as_its_name() {
    let table = table(&[
        by("a", "/"),
        Match {
            fields: vec![Condition {
                name: "X-Role-Name".into(),
                expected: Expected::Present,
            }],
            ..by("a", "/")
        },
    ]);
    for (lines, expected) in [
        ("x-role-name: x\r\n", "a/X-Role-Name"),
        ("X_Role_Name: x\r\n", "a/X-Role-Name"),
        ("x-role_name: x\r\n", "a/X-Role-Name"),
        ("xrolename: x\r\n", "a/"),
    ] {
        assert_eq!(
            find(&table, "a", "/", Method::Get, lines),
            expected,
            "{lines}"
        );
    }
}

#[test]
fn a_rule_may_be_for_requests_with_or_without_tls_alone() {
    let only = |scheme| Match {
        scheme: Some(scheme),
        ..by("a.example", "/")
    };
    let table = table(&[
        only(Scheme::Http),
        only(Scheme::Https),
        by("a.example", "/both"),
        by("b.example", "/"),
    ]);
    let find = |scheme, host: &str, path| {
        let host = Host::parse(host.as_bytes());
        match table.find_parts((scheme, host), path, Method::Get, Fields::NONE) {
            Found::Rule(matched) => Some(matched.rule.id.0),
            Found::NoRule(_) | Found::Refused(_) => None,
        }
    };
    for (scheme, own) in [(Scheme::Http, 0), (Scheme::Https, 1)] {
        assert_eq!(find(scheme, "a.example", "/"), Some(own));
        assert_eq!(find(scheme, "a.example", "/both"), Some(2));
        assert_eq!(find(scheme, "b.example", "/"), Some(3));
    }
}

#[test]
fn a_host_that_nobody_declared_is_told_from_none() {
    let table = table(&[by("a.example", "/")]);
    assert_eq!(
        find(&table, "b.example", "/", Method::Get, ""),
        "unknown_host"
    );
    assert_eq!(find(&table, "", "/", Method::Get, ""), "no_host");
}

#[test]
fn no_other_way_to_write_a_path_leads_around_its_rule() {
    let table = table(&[by("a", "/"), by("a", "/admin")]);
    for (path, expected) in [
        ("/admin", "a/admin"),
        ("/admin/", "a/admin"),
        ("/%61dmin", "a/admin"),
        ("/%61%64%6D%69%6e/x", "a/admin"),
        ("/x/../admin", "a/admin"),
        ("/./admin", "a/admin"),
        ("/x/%2e%2e/admin", "a/admin"),
        ("/admin/x/../y", "a/admin"),
        ("//admin", "ambiguous_path"),
        ("/x/..//admin", "ambiguous_path"),
        ("/admin;x=1", "ambiguous_path"),
        ("/x/..;/admin", "ambiguous_path"),
        ("/;/admin", "ambiguous_path"),
        ("/admin%2fx", "ambiguous_path"),
        ("/%2fadmin", "ambiguous_path"),
        ("/x%2f..%2fadmin", "ambiguous_path"),
        ("/x/..%5cadmin", "ambiguous_path"),
        ("/admin/..%2fx", "ambiguous_path"),
        ("/admin/../x", "a/"),
        ("/a\\..\\admin", "bad_target"),
        ("/admin%00", "encoded_nul"),
        ("/%", "bad_escape"),
        ("/../admin", "above_root"),
        // No rule sees a difference: these pass as they are.
        ("/group%2Fproject", "a/"),
        ("/bucket//key;v=1", "a/"),
        ("/caf%C3%A9", "a/"),
        ("/ADMIN", "a/"),
        ("/administrator", "a/"),
    ] {
        assert_eq!(find(&table, "a", path, Method::Get, ""), expected, "{path}");
    }
}

#[test]
fn a_rule_may_itself_have_an_encoded_path() {
    let table = table(&[by("a", "/"), by("a", "/caf%c3%a9"), by("a", "/g%2fp")]);
    assert_eq!(
        find(&table, "a", "/caf%C3%A9/x", Method::Get, ""),
        "a/caf%c3%a9"
    );
    assert_eq!(find(&table, "a", "/g%2Fp", Method::Get, ""), "a/g%2fp");
    let found = table.find_parts(
        (Scheme::Https, Host::parse(b"a")),
        "/%63af%C3%A9/x",
        Method::Get,
        Fields::NONE,
    );
    let Found::Rule(matched) = found else {
        panic!("{found:?}")
    };
    assert_eq!(&matched.path.as_str()[matched.prefix_len..], "/x");
}

#[test]
fn contradictions_are_all_reported() {
    let mut builder = TableBuilder::new();
    let mut nobody = rule(1, "nobody");
    nobody.route = route("nobody", 0);
    builder
        .rule(by("a", "/"), rule(1, "one"))
        .rule(by("b", "/"), nobody)
        .rule(by("a", "/"), rule(2, "again"))
        .rule(by("a", "x"), rule(3, "path"))
        .rule(by("a", "/.."), rule(4, "root"))
        .rule(by("a", "/x?y"), rule(5, "query"))
        .rule(
            Match {
                methods: vec!["G T".into()],
                fields: vec![Condition {
                    name: "a b".into(),
                    expected: Expected::Present,
                }],
                ..by("a", "/m")
            },
            rule(6, "method"),
        );
    let errors = builder.build().unwrap_err();
    assert_eq!(errors.len(), 8, "{errors:?}");
    let mut builder = TableBuilder::new();
    let mut checked = rule(1, "check");
    Arc::make_mut(&mut checked.policy).check = Some(Check {
        probe: Probe::Http {
            path: "/ok HTTP/1.1\r\nX: y".into(),
            host: Some("a b".into()),
            statuses: 200..=299,
        },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
    });
    builder.rule(by("a", "/"), checked);
    assert_eq!(
        builder.build().unwrap_err().len(),
        2,
        "no request can be smuggled by a check"
    );
    let mut builder = TableBuilder::new();
    let mut redirect = rule(1, "redirect");
    redirect.route = route("redirect", 0);
    redirect.action = Action::Redirect(Redirect::to_https(RedirectStatus::Found, 443));
    builder.rule(by("a", "/"), redirect);
    assert!(builder.build().is_ok(), "a redirect needs no target");
}

#[test]
fn addresses_come_before_passwords() {
    let auth = Auth::new("x", &[("alice", &Auth::hash("pw", b"saltsalt"))]).unwrap();
    let prefixes = |raw: &str| Prefixes::new([raw.parse().unwrap()]);
    let policy = Policy {
        auth: Some(auth),
        allow: prefixes("10.0.0.0/8"),
        deny: prefixes("10.1.0.0/16"),
        ..Policy::default()
    };
    // alice:pw
    let right = Fields::checked(b"Authorization: Basic YWxpY2U6cHc=\r\n");
    let wrong = Fields::checked(b"Authorization: Basic YWxpY2U6eHg=\r\n");
    let admit = |address: &str, fields| policy.admit(address.parse().unwrap(), fields);
    assert_eq!(admit("10.0.0.1", right), Ok(Some("alice")));
    assert_eq!(admit("::ffff:10.0.0.1", right), Ok(Some("alice")));
    assert_eq!(admit("10.0.0.1", wrong), Err(Denied::BadCredentials));
    assert_eq!(admit("10.0.0.1", Fields::NONE), Err(Denied::Unauthorized));
    assert_eq!(admit("10.1.0.1", right), Err(Denied::Address));
    assert_eq!(admit("11.0.0.1", right), Err(Denied::Address));
    assert_eq!(
        Policy::default().admit("11.0.0.1".parse().unwrap(), wrong),
        Ok(None)
    );
}

#[test]
fn a_full_host_is_still_looked_up_in_no_time() {
    let matches: Vec<Match> = (0..RULES_PER_HOST_MAX)
        .map(|at| by("a", &format!("/some/longer/path/{at}")))
        .collect();
    let table = table(&matches);
    let started = Instant::now();
    for _ in 0..100 {
        find(&table, "a", "/some/longer/path/x", Method::Get, "");
    }
    // Some microseconds each; the bound is for a busy machine without optimisation.
    assert!(
        started.elapsed().as_millis() < 200,
        "{:?}",
        started.elapsed()
    );
}

const HOSTS: [&str; 6] = ["a", "b.a", "*.a", "*.b.a", "c", ""];
const PATHS: [&str; 4] = ["/", "/x", "/x/", "/y"];

/// The id of a rule, and what it is called.
fn numbered(host: usize, path: usize, version: u32) -> (u32, String) {
    let id = u32::try_from(host * PATHS.len() + path).unwrap();
    (id, format!("{}{} {version}", HOSTS[host], PATHS[path]))
}

fn add(builder: &mut TableBuilder, host: usize, (paths, version): &(BTreeSet<usize>, u32)) {
    for path in paths {
        let (id, label) = numbered(host, *path, *version);
        builder.rule(by(HOSTS[host], PATHS[*path]), rule(id, &label));
    }
}

/// All that can be found in a table.
fn found(table: &Table) -> Vec<String> {
    let hosts = ["a", "b.a", "x.a", "x.b.a", "c", "d"];
    let all = hosts.iter().flat_map(|host| {
        let paths = ["/", "/x", "/x/z", "/y", "/z"];
        paths.map(|path| find(table, host, path, Method::Get, ""))
    });
    let mut rules: Vec<String> = table
        .placed()
        .map(|placed| format!("{:?} {}", placed.place, placed.rule.route.label))
        .collect();
    rules.sort_unstable();
    all.chain(rules).collect()
}

proptest! {
    #[test]
    fn changes_of_changes_come_to_what_is_built_from_nothing(
        steps in prop::collection::vec(
            prop::collection::btree_map(
                0..HOSTS.len(),
                (prop::collection::btree_set(0..PATHS.len(), 0..4), any::<u32>()),
                1..4,
            ),
            1..12,
        )
    ) {
        let (mut model, mut now) = (BTreeMap::new(), Table::default());
        for edits in steps {
            let before = now.clone();
            let mut builder = TableBuilder::after(&before);
            for (host, rules) in &edits {
                let pattern = by(HOSTS[*host], "/").host;
                builder.clear(pattern.as_ref());
                add(&mut builder, *host, rules);
            }
            let had: BTreeSet<usize> = model.keys().copied().collect();
            model.extend(edits.clone());
            model.retain(|_, (paths, _): &mut (BTreeSet<usize>, u32)| !paths.is_empty());
            now = builder.build().unwrap();
            let mut whole = TableBuilder::new();
            for (host, rules) in &model {
                add(&mut whole, *host, rules);
            }
            prop_assert_eq!(found(&now), found(&whole.build().unwrap()));
            // Nothing but the hosts of the change is looked at.
            let changed = edits.keys().filter(|host| had.contains(host) || model.contains_key(host));
            prop_assert_eq!(before.changed_hosts(&now).len(), changed.count());
            for (host, (paths, _)) in model.iter().filter(|(host, _)| !edits.contains_key(host)) {
                for path in paths {
                    let id = RouteId(numbered(*host, *path, 0).0);
                    let of = |table: &Table| table.rules().find(|rule| rule.id == id).cloned();
                    prop_assert!(of(&before).zip(of(&now)).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b)));
                }
            }
            for (host, path) in (0..HOSTS.len()).flat_map(|host| (0..PATHS.len()).map(move |path| (host, path))) {
                let is_there = model.get(&host).is_some_and(|(paths, _)| paths.contains(&path));
                prop_assert_eq!(now.has_rule(RouteId(numbered(host, path, 0).0)), is_there);
            }
        }
    }
}

#[test]
fn a_rule_may_move_to_another_host_and_be_in_one_place_alone() {
    let before = table(&[by("a", "/"), by("b", "/")]);
    let mut builder = TableBuilder::after(&before);
    builder.rule(by("c", "/"), rule(0, "moved"));
    let errors = builder.build().unwrap_err();
    assert!(
        matches!(&errors[..], [TableError::DuplicateId { .. }]),
        "{errors:?}"
    );
    let mut builder = TableBuilder::after(&before);
    builder.rule(by("c", "/"), rule(0, "moved"));
    builder.clear(by("a", "/").host.as_ref());
    let after = builder.build().unwrap();
    assert_eq!(find(&after, "c", "/", Method::Get, ""), "moved");
    assert!(before.removed_rules(&after).is_empty());
    let mut builder = TableBuilder::after(&after);
    builder.clear(by("c", "/").host.as_ref());
    assert_eq!(after.removed_rules(&builder.build().unwrap()), [RouteId(0)]);
}
