//! Admission at a listener: shares for each address, and which connection is displaced when all
//! places are taken.
//!
//! Owns: the places of connections that are not admitted yet, and how many each address holds.
//! Never: sockets, clocks. A handle is stored with each connection, and returned if it must be
//! closed.

mod places;
mod shares;

pub use places::{Entered, Place, Places};
pub use shares::{OverShare, Share, Shares, part_of};

use std::net::IpAddr;

/// The owner of a share: an IPv4 address, or an IPv6 network of 64 bits, the usual size for one
/// customer of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// An address.
    V4([u8; 4]),
    /// The first half of an address.
    V6([u8; 8]),
}

impl Holder {
    /// The holder of `ip`'s share.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let first_half = ip.octets().first_chunk().copied();
                Self::V6(first_half.expect("sixteen bytes"))
            }
        }
    }

    /// The smallest holder.
    const FIRST: Self = Self::V4([0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: neighbours in one IPv6 network of 64 bits share, others do not; an IPv4 address is the
    /// same in each notation.
    #[test]
    fn an_ipv6_network_is_one_holder() {
        let of = |text: &str| Holder::of(text.parse().expect(text));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert!(of("0.0.0.0") >= Holder::FIRST && of("::") > Holder::FIRST);
    }
}
