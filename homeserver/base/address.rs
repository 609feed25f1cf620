//! Which addresses the server may call when somebody else says whom to call: another server's name, a
//! push gateway, a page to preview. Only what is on the public Internet, and what the settings permit
//! beyond it; otherwise a stranger could reach what stands behind our own firewall (SSRF). Knows
//! addresses and not names: a name is judged by what it resolves to, at the moment of connecting.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Addresses that have the same first bits: `10.0.0.0/8`, or a single one, `127.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u128,
    /// How many bits count, of the 128 that every address has here.
    bits: u32,
}

/// IPv4 addresses as IPv6 has them: `::ffff:a.b.c.d`.
fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

impl Network {
    /// Whether an address is one of them.
    pub fn has(&self, ip: IpAddr) -> bool {
        bits_of(ip) & mask(self.bits) == self.first
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(drop)?;
        let (before, all) = if ip.is_ipv4() { (96, 32) } else { (0, 128) };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(drop))?;
        if bits > all {
            return Err(());
        }
        let bits = before + bits;
        Ok(Self { first: bits_of(ip) & mask(bits), bits })
    }
}

/// What may be called beyond the public Internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permitted {
    /// Nothing.
    #[default]
    Public,
    /// These networks.
    Also(Vec<Network>),
    /// Everything, for tests and for servers that live in a network of their own.
    All,
}

/// An address that may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub IpAddr);

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is not on the public Internet, and federation.allow_private_addresses does not name it", self.0)
    }
}

impl Permitted {
    /// Refuses an address that may not be called.
    pub fn check(&self, ip: IpAddr) -> Result<(), Refused> {
        let permitted = is_public(ip)
            || match self {
                Self::Public => false,
                Self::Also(networks) => networks.iter().any(|network| network.has(ip)),
                Self::All => true,
            };
        if permitted { Ok(()) } else { Err(Refused(ip)) }
    }

    /// The same for the host of a URL, if it is an address: names are judged when they are resolved.
    pub fn check_host(&self, host: &str) -> Result<(), Refused> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or(Ok(()), |ip| self.check(ip))
    }
}

/// Whether an address is one that anybody on the Internet can have.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// What IANA's registry of special addresses calls globally reachable, less relays and anycast of old.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match a {
        // This network, private, loopback, multicast, reserved.
        0 | 10 | 127 | 224.. => true,
        // Behind a carrier's NAT.
        100 => b & 0xC0 == 64,
        169 => b == 254,
        172 => b & 0xF0 == 16,
        // Protocol assignments, documentation, 6to4 relays, private.
        192 => matches!((b, c), (0, 0 | 2) | (88, 99) | (168, _)),
        // Benchmarks, documentation.
        198 => b & 0xFE == 18 || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // IPv4 in IPv6's clothes, and behind NAT64: what counts is where it leads.
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        // 6to4 leads to the IPv4 address within.
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..0x200, ..] | [0x2001, 0xDB8, ..] | [0x3FFF, 0..0x1000, ..] => false,
        // All else that is global stands in one block.
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_not_on_the_public_internet_is_refused() {
        for private in "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 \
            172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 \
            198.51.100.1 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 \
            ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 \
            2001::1 2001:10::1 2001:db8::1 2002:a00:1:: 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd12::1 \
            fe80::1 fec0::1 ff02::1"
            .split_whitespace()
        {
            assert!(!is_public(ip(private)), "{private}");
            assert_eq!(Permitted::Public.check(ip(private)), Err(Refused(ip(private))));
            assert_eq!(Permitted::All.check(ip(private)), Ok(()));
        }
        for public in "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.1.1 \
            198.17.0.1 198.20.0.1 223.255.255.255 ::ffff:1.1.1.1 64:ff9b::8.8.8.8 2001:4860:4860::8888 \
            2002:808:808::1 2606:4700::1111 2a00::1"
            .split_whitespace()
        {
            assert!(is_public(ip(public)), "{public}");
        }
    }

    #[test]
    fn what_the_settings_permit_is_permitted_and_nothing_beside_it() {
        let networks = ["10.1.0.0/16", "127.0.0.1", "fd00::/8"].map(|text| text.parse().expect("a network"));
        let permitted = Permitted::Also(networks.to_vec());
        for fine in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "fd99::1", "1.1.1.1"] {
            assert_eq!(permitted.check(ip(fine)), Ok(()), "{fine}");
        }
        for wrong in ["10.2.0.1", "127.0.0.2", "fc00::1", "::1", "192.168.0.1"] {
            assert!(permitted.check(ip(wrong)).is_err(), "{wrong}");
        }
        for no_network in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "localhost", "1.2.3.4/-1", "1.2.3.4/"] {
            assert!(no_network.parse::<Network>().is_err(), "{no_network}");
        }
        assert!("::/0".parse::<Network>().expect("all").has(ip("127.0.0.1")));
        assert!("0.0.0.0/0".parse::<Network>().is_ok_and(|all| all.has(ip("9.9.9.9")) && !all.has(ip("2a00::1"))));
    }

    #[test]
    fn a_host_is_judged_if_it_is_an_address() {
        for refused in ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]"] {
            assert!(Permitted::Public.check_host(refused).is_err(), "{refused}");
        }
        for later in ["localhost", "example.org", "[2a00::1]", "1.1.1.1"] {
            assert!(Permitted::Public.check_host(later).is_ok(), "{later}");
        }
    }
}
