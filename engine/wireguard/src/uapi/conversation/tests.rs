//! Whole conversations with a device that writes down what it is asked.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    change::PeerChange,
    key::{Key, PublicKey},
    state::PeerState,
};

#[derive(Default)]
struct Record {
    changes: RefCell<Vec<Change>>,
    refusal: Option<i32>,
}

impl Configured for Record {
    fn configure(&self, change: Change) -> Result<(), i32> {
        self.changes.borrow_mut().push(change);
        self.refusal.map_or(Ok(()), Err)
    }

    fn state(&self) -> Result<State, i32> {
        Ok(State {
            private_key: Some(Key::new([0x11; 32])),
            public_key: None,
            listen_port: 51_820,
            mtu: 1_420,
            peers: vec![PeerState {
                public_key: PublicKey::new([0x22; 32]),
                preshared_key: Some(Key::new([0x33; 32])),
                endpoint: "[2001:db8::1]:7".parse().ok(),
                last_handshake: Some(UNIX_EPOCH + Duration::new(5, 6)),
                rx_bytes: 8,
                tx_bytes: 9,
                keep_alive: 25,
                allowed_ips: Arc::from(["10.0.0.2/32".parse().unwrap()]),
            }],
        })
    }
}

/// A client that sends pieces and takes so many bytes at a time.
struct Pipe {
    pieces: Vec<Vec<u8>>,
    taken: Vec<u8>,
    room: usize,
}

impl Pipe {
    fn new(text: &str, piece: usize) -> Self {
        let pieces = text.as_bytes().chunks(piece).rev();
        Self {
            pieces: pieces.map(<[u8]>::to_vec).collect(),
            taken: Vec::new(),
            room: usize::MAX,
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.pieces.pop().ok_or(io::ErrorKind::WouldBlock)?;
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = bytes.len().min(self.room);
        self.room -= len;
        self.taken.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn talk(text: &str, piece: usize, device: &Record) -> String {
    let (mut conversation, mut pipe) = (Conversation::default(), Pipe::new(text, piece));
    while !pipe.pieces.is_empty() {
        assert_ne!(conversation.go_on(&mut pipe, device), Next::End);
    }
    assert_eq!(conversation.go_on(&mut pipe, device), Next::Read);
    String::from_utf8(pipe.taken).unwrap()
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

#[test]
fn the_state_is_told_as_the_protocol_writes_it() {
    let expected = format!(
        "private_key={}\nlisten_port=51820\npublic_key={}\npreshared_key={}\nprotocol_version=1\n\
         endpoint=[2001:db8::1]:7\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=6\n\
         tx_bytes=9\nrx_bytes=8\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.2/32\n\
         errno=0\n\n",
        hex(0x11),
        hex(0x22),
        hex(0x33),
    );
    assert_eq!(talk("get=1\n\n", 100, &Record::default()), expected);
}

#[test]
fn a_change_means_the_same_however_it_is_cut_into_pieces() {
    let text = format!(
        "set=1\nprivate_key={}\nlisten_port=7\nfwmark=0\nreplace_peers=true\n\
         public_key={}\nupdate_only=true\npreshared_key={}\nendpoint=192.0.2.1:9\n\
         persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=fd00::1\nprotocol_version=1\npublic_key={}\nremove=true\n\
         preshared_key={}\n\n",
        hex(1),
        hex(2),
        hex(3),
        hex(4),
        hex(0),
    );
    let first = PeerChange {
        update_only: true,
        preshared_key: Some(Some(Key::new([3; 32]))),
        endpoint: "192.0.2.1:9".parse().ok(),
        keep_alive: Some(25),
        replace_allowed_ips: true,
        allowed_ips: vec![
            "10.0.0.0/8".parse().unwrap(),
            "fd00::1/128".parse().unwrap(),
        ],
        ..PeerChange::new(PublicKey::new([2; 32]))
    };
    let second = PeerChange {
        remove: true,
        preshared_key: Some(None),
        ..PeerChange::new(PublicKey::new([4; 32]))
    };
    let expected = Change {
        private_key: Some(Key::new([1; 32])),
        listen_port: Some(7),
        replace_peers: true,
        peers: vec![first, second],
    };
    for piece in [1, 2, 3, 7, 64, text.len()] {
        let device = Record::default();
        assert_eq!(talk(&text, piece, &device), "errno=0\n\n");
        assert_eq!(*device.changes.borrow(), std::slice::from_ref(&expected));
    }
}

#[test]
fn a_request_that_makes_no_sense_changes_nothing_and_the_next_one_is_heard() {
    let key = hex(1);
    let nonsense = [
        "hello\n\n".to_owned(),
        "get=2\n\n".to_owned(),
        "get=1\nlisten_port=1\n\n".to_owned(),
        "set=1\nlisten_port=65536\n\n".to_owned(),
        "set=1\nprivate_key=00\n\n".to_owned(),
        format!("set=1\nprivate_key={}\n\n", "g".repeat(64)),
        "set=1\nreplace_peers=false\n\n".to_owned(),
        "set=1\nendpoint=192.0.2.1:9\n\n".to_owned(),
        format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33\n\n"),
        format!("set=1\npublic_key={key}\nendpoint=example.org:1\n\n"),
        format!("set=1\npublic_key={key}\nlisten_port=1\n\n"),
        format!("set=1\npublic_key={key}\nprotocol_version=2\n\n"),
        "set=1\n\u{fffd}\n\n".to_owned(),
    ];
    for request in nonsense {
        let device = Record::default();
        let answers = talk(&format!("{request}set=1\n\n"), 100, &device);
        assert_eq!(answers, "errno=-22\n\nerrno=0\n\n", "{request}");
        assert_eq!(*device.changes.borrow(), [Change::default()]);
    }
    let marked = talk("set=1\nfwmark=51820\n\n", 100, &Record::default());
    assert_eq!(marked, "errno=-95\n\n");
}

#[test]
fn a_refusal_is_answered_with_its_number() {
    let device = Record {
        refusal: Some(98),
        ..Record::default()
    };
    assert_eq!(
        talk("set=1\nlisten_port=1\n\n", 100, &device),
        "errno=-98\n\n"
    );
}

#[test]
fn a_line_without_end_ends_the_conversation() {
    let text = "x".repeat(10_000);
    let (mut conversation, mut pipe) = (Conversation::default(), Pipe::new(&text, 100));
    let mut turns = 0;
    while conversation.go_on(&mut pipe, &Record::default()) == Next::Read {
        turns += 1;
        assert!(turns < 10);
    }
}

#[test]
fn too_many_peers_in_one_request_are_refused_without_being_kept() {
    let mut text = "set=1\n".to_owned();
    for _ in 0..(1 << 17) + 1 {
        text.push_str(&format!("public_key={}\n", hex(1)));
    }
    let device = Record::default();
    assert_eq!(talk(&(text + "\n"), READ_BYTES, &device), "errno=-7\n\n");
    assert_eq!(*device.changes.borrow(), []);
}

#[test]
fn a_client_that_does_not_take_its_answer_is_not_asked_for_more() {
    let device = Record::default();
    let mut conversation = Conversation::default();
    let mut pipe = Pipe::new(&"get=1\n\n".repeat(5_000), READ_BYTES);
    pipe.room = 0;
    for _ in 0..10 {
        assert_eq!(conversation.go_on(&mut pipe, &device), Next::Write);
    }
    assert!(conversation.answer.len() < 1_000, "one answer is kept");
    pipe.room = usize::MAX;
    assert_eq!(conversation.go_on(&mut pipe, &device), Next::Read);
    let answers = String::from_utf8(pipe.taken).unwrap();
    assert_eq!(answers.matches("errno=0\n\n").count(), 5_000);
}
