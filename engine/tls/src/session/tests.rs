use crate::{
    Certificates, Policy,
    origin::{Origin, Settings, Trust},
    testing::{Authority, Both, carry, terms},
};

fn pair() -> Both {
    let authority = Authority::new();
    let certificates = Certificates::default();
    certificates.add(&authority.bundle(&["a.example"]));
    let origin = Origin::new(&Settings {
        trust: Trust::Own(authority.roots()),
        ..Settings::default()
    });
    let client = origin.unwrap().connect("a.example").unwrap();
    Both::shaken(client, &terms(&certificates, &Policy::default()))
}

#[test]
fn both_sides_agree_on_the_hybrid_group_and_exchange_bytes() {
    let mut both = pair();
    let agreed = both.server.agreed().unwrap();
    assert_eq!(agreed.version, "TLSv1.3");
    assert_eq!(agreed.group, Some("X25519MLKEM768"));
    assert_eq!(agreed.protocol, Some(b"http/1.1".as_slice()));
    assert!(!agreed.resumed);

    let sent = both
        .client
        .send(&mut both.near, &mut both.scratch, b"hello");
    assert_eq!(sent.unwrap(), 5);
    carry(&mut both.near, &mut both.far);
    let mut into = [0; 64];
    let count = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut into);
    assert_eq!(&into[..count.unwrap()], b"hello");
}
