//! What people read, of answers as the gateway writes them.

use control_api::answer::{
    Applied, AuditEntries, Certificates, Event, Generations, Status, TrafficInfo,
};
use serde_json::{Value, json};

use super::*;

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> T {
    serde_json::from_value(answer).unwrap()
}

const KEY: &str = "2juzbPd8m9DomiILF0YL4JpF1QoENVUFanbDajGIit0=";
const PEER: &str = "+CEUQvi23mvWnZZENL11tkFmMOhpHDJEPRBZgysvUgA=";

/// A gateway with a network of two peers that is well, and one without a device that is not.
pub(crate) fn gateway() -> Status {
    read(json!({
        "version": "0.1.0", "started": 1_795_000_000, "uptime_seconds": 90_000, "ready": false,
        "generation": {"desired": 12, "running": 11},
        "wireguard": {"backend": "kernel", "reason": ""},
        "networks": {
            "51820": {
                "name": "network-51820", "namespace": "network-51820", "state": "ok",
                "reasons": [], "public_key": KEY,
                "device": {"name": "wg51820", "backend": "kernel", "up": true, "mtu": 1420,
                           "addresses": ["10.0.0.1/24", "fd00::1/64"], "listen_port": 51820},
                "peers": {
                    PEER: {"endpoint": "192.0.2.1:4500", "last_handshake": 999_988,
                           "connected": true, "rx": 1_288_490_189_u64, "tx": 1024,
                           "allowed_ips": ["10.0.0.2/32"]},
                    KEY: {"endpoint": null, "last_handshake": null, "connected": false,
                          "rx": 0, "tx": 148, "allowed_ips": []}
                },
                "routes": [{"route": "network-51820/shop.example.com", "connections": 3,
                            "opened": 1234, "bytes_in": 5000, "bytes_out": 1_000_000}],
                "connections": 3, "bytes_in": 5000, "bytes_out": 1_000_000
            },
            "51822": {
                "name": "network-51822", "namespace": "host", "state": "degraded",
                "reasons": ["the namespace \u{1b}[2Jblue is gone"], "public_key": null,
                "device": null, "peers": {}, "routes": [],
                "connections": 0, "bytes_in": 0, "bytes_out": 0
            }
        },
        "listeners": [{"name": "https", "bind": "[::]:443", "protocol": "tls", "accepted": 4321}],
        "workers": [{"worker": 0, "generation": 11, "connections": 3, "accepted": 4321,
                     "bytes_in": 5000, "bytes_out": 1_000_000}],
        "store": {"ok": false, "since": 999_940, "error": "the disk is full", "bytes": 4096},
        "degraded": [{"object": "network-51822", "why": "the namespace is gone",
                      "since": 999_940}],
        "warnings": ["no token is configured"]
    }))
}

#[test]
fn a_status_fits_on_a_terminal_of_80_columns() {
    let text = status(&gateway(), Shown::All, 1_000_000, Paint::PLAIN);
    assert_eq!(
        text,
        "\
ringway 0.1.0 · up 1 d 1 h · generation 12 (workers still run 11) · WireGuard: kernel

NETWORK  STATE     PEERS  RECEIVED     SENT  CONNS       IN      OUT
  51820  ok          1/2   1.2 GiB  1.1 KiB      3  4.8 KiB  976 KiB
  51822  degraded      -         -        -      0      0 B      0 B

LISTENER  ADDRESS   PROTOCOL  ACCEPTED
https     [::]:443  tls          4,321

WORKER  GENERATION  CONNS  ACCEPTED       IN      OUT
     0          11      3     4,321  4.8 KiB  976 KiB

store: not written (1 min ago): the disk is full

degraded: network-51822: the namespace is gone (1 min ago)

warning: no token is configured
"
    );
}

#[test]
fn one_network_is_shown_with_its_peers_and_routes() {
    let text = status(&gateway(), Shown::Network(51820), 1_000_000, Paint::PLAIN);
    assert_eq!(
        text,
        format!(
            "\
network-51820 · ok · dialed from network-51820
public key {KEY}
device wg51820 · kernel · up · UDP port 51820 · MTU 1420 · 10.0.0.1/24, fd00::1/64

PEER                                          HANDSHAKE  RECEIVED     SENT  ENDPOINT        ALLOWED
{KEY}  never           0 B    148 B  -
{PEER}  12 s ago    1.2 GiB  1.0 KiB  192.0.2.1:4500  10.0.0.2/32

ROUTE                           CONNS  OPENED       IN      OUT
network-51820/shop.example.com      3   1,234  4.8 KiB  976 KiB
"
        )
    );
    let text = status(&gateway(), Shown::Network(51822), 1_000_000, Paint::PLAIN);
    assert!(
        text.contains("degraded: the namespace \u{fffd}[2Jblue is gone\n"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn certificates_are_a_table_and_one_is_shown_in_full() {
    let mut answer: Certificates = read(json!({"total": 4, "certificates": [
        {"name": "", "state": "failed", "source": "/etc/gone.pem", "error": "no such file"},
        {"name": "a.example", "network": 51820, "state": "stale", "source": "one",
         "names": ["a.example", "*.b.example"], "hosts": ["a.example"], "issuer": "Pe\u{1b}bble",
         "not_before": 0, "not_after": 86_400, "due": 50, "error": "timed out"},
        {"name": "c.example", "state": "pending", "source": "one", "due": 130}
    ]}));
    assert_eq!(
        certificates(&answer, 100, Paint::PLAIN),
        "\
NAME           STATE    NETWORK  EXPIRES         DUE       SOURCE         ERROR
/etc/gone.pem  failed         -  -               -         /etc/gone.pem  no such file
a.example      stale      51820  in 23 h 58 min  50 s ago  one            timed out
c.example      pending        -  -               in 30 s   one
and 1 more: ask for those of a --network
"
    );
    assert_eq!(
        certificates_in_full(&answer, 100, Paint::PLAIN),
        "\
/etc/gone.pem · failed
of          the gateway
source      /etc/gone.pem
serves      none
last error  no such file

a.example · stale
of          network-51820
source      one
names       a.example, *.b.example
serves      a.example
issuer      Pe\u{fffd}bble
valid from  1970-01-01T00:00:00Z (1 min ago)
valid until 1970-01-02T00:00:00Z (in 23 h 58 min)
due         1970-01-01T00:00:50Z (50 s ago)
last error  timed out

c.example · pending
of          the gateway
source      one
serves      none
due         1970-01-01T00:02:10Z (in 30 s)
"
    );
    answer.total = 0;
    answer.certificates.clear();
    assert!(certificates(&answer, 0, Paint::PLAIN).starts_with("there are no certificates"));
}

#[test]
fn a_plan_reads_like_a_diff() {
    let mut answer: Applied = read(json!({
        "generation": 4, "changed": true, "dry_run": true,
        "steps": [
            {"op": "make", "object": "network-51820", "detail": ""},
            {"op": "set", "object": "network-51820/wg51820", "detail": "mtu 1380"},
            {"op": "remove", "object": "network-51821", "detail": ""}
        ],
        "warnings": [{"pointer": "/51820/mtu", "message": "is small", "hint": "1420"}]
    }));
    assert_eq!(
        applied(&answer, Paint::PLAIN),
        "   STEP    OBJECT                 DETAIL
+  make    network-51820
~  set     network-51820/wg51820  mtu 1380
-  remove  network-51821
generation 4 would be followed by another: 3 steps
warning: /51820/mtu: is small (1420)
"
    );
    answer.dry_run = false;
    answer.steps.truncate(1);
    answer.warnings.clear();
    assert!(applied(&answer, Paint::PLAIN).ends_with("generation 4: changed, 1 step\n"));
    answer.changed = false;
    answer.steps.clear();
    assert_eq!(
        applied(&answer, Paint::PLAIN),
        "generation 4: nothing changes\n"
    );
}

#[test]
fn generations_say_which_one_runs() {
    let mut answer: Generations = read(json!({
        "desired": 3, "running": 2,
        "generations": [
            {"generation": 3, "time": 999_990, "actor": "ops", "note": "apply"},
            {"generation": 2, "time": 990_000, "actor": "-", "note": "rollback to 1"},
            {"generation": 1, "time": 900_000, "actor": "boot", "note": "seed"}
        ]
    }));
    assert_eq!(
        generations(&answer, 1_000_000, Paint::PLAIN),
        "\
GENERATION                 TIME                                  ACTOR  REQUEST
         3  desired        1970-01-12T13:46:30Z  10 s ago        ops    apply
         2  still running  1970-01-12T11:00:00Z  2 h 46 min ago  -      rollback to 1
         1                 1970-01-11T10:00:00Z  1 d 3 h ago     boot   seed
"
    );
    answer.generations.clear();
    assert!(generations(&answer, 0, Paint::PLAIN).starts_with("no generation yet"));
}

#[test]
fn an_audit_entry_without_a_generation_leaves_its_field_empty() {
    let answer: AuditEntries = read(json!({"entries": [
        {"id": 2, "time": 1_000_000, "actor": "-", "role": "-", "source": "192.0.2.9",
         "action": "POST /api/v1/apply", "generation": null, "result": "refused",
         "detail": "unknown token"}
    ]}));
    assert_eq!(
        audit(&answer, Paint::PLAIN),
        "\
TIME                  ACTOR  ROLE  SOURCE     REQUEST             RESULT   GENERATION  DETAIL
1970-01-12T13:46:40Z  -      -     192.0.2.9  POST /api/v1/apply  refused              unknown token
"
    );
}

#[test]
fn every_kind_of_event_has_a_line() {
    for (event_json, line) in [
        (
            json!({"id": 1, "time": 0, "kind": "peer_connected", "network": 51820, "peer": KEY,
                   "endpoint": "192.0.2.1:9"}),
            format!("peer_connected     network 51820  peer {KEY} from 192.0.2.1:9"),
        ),
        (
            json!({"id": 2, "time": 0, "kind": "peer_disconnected", "network": 1, "peer": KEY}),
            format!("peer_disconnected  network 1  peer {KEY}"),
        ),
        (
            json!({"id": 3, "time": 0, "kind": "endpoint_changed", "network": 1, "peer": KEY,
                   "endpoint": "[2001:db8::1]:9"}),
            format!("endpoint_changed   network 1  peer {KEY} from [2001:db8::1]:9"),
        ),
        (
            json!({"id": 4, "time": 0, "kind": "network_degraded", "network": 1,
                   "reasons": ["a", "b"]}),
            "network_degraded   network 1  a; b".to_owned(),
        ),
        (
            json!({"id": 5, "time": 0, "kind": "network_recovered", "network": 1}),
            "network_recovered  network 1".to_owned(),
        ),
        (
            json!({"id": 6, "time": 0, "kind": "state_applied", "generation": 9, "actor": "ops"}),
            "state_applied      generation 9 by ops".to_owned(),
        ),
    ] {
        let happened: Event = read(event_json);
        let expected = format!("1970-01-01T00:00:00Z  {line}");
        assert_eq!(event(&happened, Paint::PLAIN), expected);
    }
}

#[test]
fn accounts_have_a_line_for_each_peer_and_for_each_time_when_asked() {
    let answer: TrafficInfo = read(json!({
        "start_time": 0, "stop_time": 7200, "traffic": {"rx": 3072, "tx": 10},
        "networks": {"port:51820": {
            "traffic": {"rx": 3072, "tx": 10},
            "devices": {PEER: {"traffic": {"rx": 3072, "tx": 10}, "times": {
                "3600": {"rx": 1024, "tx": 10}, "7200": {"rx": 2048, "tx": 0}
            }}}
        }}
    }));
    let text = traffic(&answer, false, Paint::PLAIN);
    assert_eq!(
        text,
        format!(
            "\
after the beginning until 1970-01-01T02:00:00Z (--since 7200 goes on from there)
NETWORK     PEER                                          TIME                  RECEIVED  SENT
port:51820  all peers                                                            3.0 KiB  10 B
            {PEER}  1970-01-01T02:00:00Z   3.0 KiB  10 B
total                                                                            3.0 KiB  10 B
"
        )
    );
    let text = traffic(&answer, true, Paint::PLAIN);
    assert!(
        text.contains("1970-01-01T01:00:00Z   1.0 KiB  10 B\n"),
        "{text}"
    );
}

#[test]
fn a_problem_reads_as_check_writes_it() {
    let mut wrong: RefusedProblem = read(json!({
        "pointer": "/51820/mtu", "message": "a number is expected", "hint": null
    }));
    assert_eq!(problem(&wrong), "/51820/mtu: a number is expected");
    wrong.hint = Some("write 1420".into());
    wrong.pointer.clear();
    assert_eq!(problem(&wrong), "a number is expected (write 1420)");
}
