use super::*;

fn address(link: u32, family: AddressFamily, scope: AddressScope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.family = family;
    message.header.prefix_len = 24;
    message.header.scope = scope;
    message
}

#[test]
fn of_a_point_to_point_address_the_near_end_counts() {
    let mut message = address(3, AddressFamily::Inet, AddressScope::Universe);
    message.attributes = vec![
        AddressAttribute::Address([10, 0, 0, 9].into()),
        AddressAttribute::Local([10, 0, 0, 1].into()),
    ];
    let near = "10.0.0.1/24".parse().ok();
    assert_eq!(read_address(&message, 3), near);
    assert_eq!(read_address(&message, 4), None, "another link's");
}

#[test]
fn link_local_addresses_that_the_kernel_gave_are_left_out() {
    let mut message = address(3, AddressFamily::Inet6, AddressScope::Link);
    message.attributes = vec![AddressAttribute::Address("fe80::1".parse().unwrap())];
    assert_eq!(read_address(&message, 3), None);
}

#[test]
fn a_route_is_read_back_as_it_was_added_and_removed_as_it_was_read() {
    for prefix in ["10.1.0.0/16", "0.0.0.0/0", "fd00:1::/32", "::/0"] {
        let prefix: IpNet = prefix.parse().unwrap();
        let RouteNetlinkMessage::NewRoute(mut told) = add_route(3, prefix) else {
            panic!("a new route");
        };
        told.attributes.push(RouteAttribute::Priority(1024));
        let route = read_route(&told, 3).unwrap();
        assert_eq!(route.prefix, prefix);
        assert_eq!(read_route(&told, 4), None, "to another link");
        let RouteNetlinkMessage::DelRoute(removed) = remove_route(3, &route) else {
            panic!("no route any more");
        };
        assert_eq!(removed.header.protocol, PROTOCOL);
        let priority = RouteAttribute::Priority(1024);
        assert!(removed.attributes.contains(&priority));
    }
}

#[test]
fn the_kernels_own_routes_are_not_somebodys() {
    let RouteNetlinkMessage::NewRoute(route) = add_route(3, "10.1.0.0/16".parse().unwrap()) else {
        panic!("a new route");
    };
    for protocol in [RouteProtocol::Kernel, RouteProtocol::Ra] {
        let mut kernels = route.clone();
        kernels.header.protocol = protocol;
        assert_eq!(read_route(&kernels, 3), None);
    }
    let mut local = route;
    local.header.kind = RouteType::Local;
    assert_eq!(read_route(&local, 3), None);
}
