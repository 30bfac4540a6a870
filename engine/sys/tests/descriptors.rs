//! Descriptors that are kept back. The limit is the process', so this test has one to itself.
#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

use std::{
    fs::File,
    io,
    net::{TcpListener, TcpStream},
    os::fd::AsFd as _,
};

use engine_sys::{
    pipe::Pipe,
    process::{
        beyond_descriptor_limit, has_descriptors, raise_descriptor_limit, reserve_descriptors,
    },
    socket,
};
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

fn open() -> io::Result<File> {
    File::open("/dev/null")
}

#[test]
fn what_is_kept_back_is_had_beyond_the_limit_alone() {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 64).unwrap();
    assert_eq!(reserve_descriptors().unwrap(), 48);
    // Whoever raises the limit later leaves it.
    assert_eq!(raise_descriptor_limit().unwrap(), 48);
    assert!(has_descriptors(16));
    let mut held = Vec::new();
    while let Ok(file) = open() {
        held.push(file);
    }
    assert!(held.len() > 32 && held.len() <= 48, "{}", held.len());
    assert!(!has_descriptors(1));
    let kept: Vec<File> = (0..8)
        .map(|_| beyond_descriptor_limit(open).unwrap())
        .collect();
    let nested = beyond_descriptor_limit(|| {
        beyond_descriptor_limit(open).unwrap();
        open()
    });
    nested.unwrap();
    open().unwrap_err();
    // Nothing of it goes to a connection that comes meanwhile.
    let listener = beyond_descriptor_limit(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let _client = beyond_descriptor_limit(|| TcpStream::connect(listener.local_addr().unwrap()));
    beyond_descriptor_limit(|| {
        let accepted = socket::accept(listener.as_fd()).map(|_| ());
        assert_eq!(
            accepted.unwrap_err().raw_os_error(),
            Some(Errno::EMFILE as i32)
        );
        Pipe::open(1 << 16).unwrap_err();
    });
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (48, 64));
    drop((kept, held));
    open().unwrap();
}
