//! What the ingress needs.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::doctor::{Area, Check, Verdict};

pub(super) fn checks(listen: &[SocketAddr]) -> Vec<Check> {
    std::iter::once(loopback()).chain(listen.iter().map(|it| free(*it))).collect()
}

fn loopback() -> Check {
    let matters = "an ingress on this host";
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => Check::good(Area::Network, "loopback", "127.0.0.1 can be listened on", matters),
        Err(error) => Check::good(Area::Network, "loopback", format!("127.0.0.1: {error}"), matters)
            .but(Verdict::Bad, "Bring it up: `ip link set lo up`."),
    }
}

fn free(address: SocketAddr) -> Check {
    let check = |found: String| Check::good(Area::Network, "ingress-address", found, "the HTTP ingress");
    match TcpListener::bind(address) {
        Ok(_) => check(format!("{address} is free")),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::AddrInUse => format!("See who has it: `ss -ltnp 'sport = :{}'`.", address.port()),
                ErrorKind::PermissionDenied => "Ports below net.ipv4.ip_unprivileged_port_start need root.".to_owned(),
                _ => "Choose an address of this host (`ip addr`).".to_owned(),
            };
            check(format!("{address}: {error}")).but(Verdict::Bad, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named_with_who_to_ask() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let check = free(address);
        assert_eq!(check.verdict, Verdict::Bad);
        assert!(check.remedy.unwrap().contains(&address.port().to_string()));
        drop(taken);
        assert_eq!(free(address).verdict, Verdict::Good);
    }
}
