//! Sets of IP networks: the peers to which a setting applies.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// A set of IP networks, and perhaps the peers on Unix sockets. The default is the empty set.
///
/// The text form is a list of the following, separated by commas and spaces:
///
/// | item | stands for |
/// | --- | --- |
/// | `10.0.0.0/8`, `fd00::/8` | the addresses of a network |
/// | `127.0.0.1`, `::1` | one address |
/// | `unix` | the peers on Unix sockets |
/// | `*` | all peers |
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::net::IpAddr;
///
/// use gearshift::Networks;
///
/// let proxies: Networks = "10.0.0.0/8, ::1, unix".parse()?;
/// assert!(proxies.contains("10.1.2.3".parse::<IpAddr>()?));
/// assert!(proxies.contains(None), "a peer on a Unix socket has no address");
/// assert!(!proxies.contains("192.0.2.1".parse::<IpAddr>()?));
/// assert!("10.0.0.1/8".parse::<Networks>().is_err(), "10.0.0.1 is within the network 10.0.0.0/8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// `None` is the empty set, so that a server without the setting tests one word.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks(Option<Arc<Set>>);

#[derive(Default, PartialEq, Eq)]
struct Set {
    has_all: bool,
    has_unix: bool,
    networks: Vec<IpNet>,
}

impl Networks {
    /// The set of all peers, including those on Unix sockets.
    ///
    /// ```
    /// assert!(gearshift_core::Networks::all().contains(None));
    /// ```
    pub fn all() -> Networks {
        Networks(Some(Arc::new(Set { has_all: true, ..Set::default() })))
    }

    /// Whether no peer is in the set.
    ///
    /// ```
    /// assert!(gearshift_core::Networks::default().is_empty());
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether all peers are in the set, as by `*`.
    pub(crate) fn is_all(&self) -> bool {
        self.0.as_ref().is_some_and(|set| set.has_all)
    }

    /// Whether the peer with this address is in the set; `None` is a peer on a Unix socket. An IPv4 address may be
    /// written as an IPv6 one (`::ffff:192.0.2.1`).
    pub fn contains(&self, address: impl Into<Option<IpAddr>>) -> bool {
        let Some(set) = &self.0 else { return false };
        set.has_all
            || match address.into() {
                None => set.has_unix,
                Some(address) => {
                    let address = address.to_canonical();
                    set.networks.iter().any(|network| network.contains(&address))
                }
            }
    }
}

/// The reason why a text is no set of [`Networks`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Networks, NetworksError};
///
/// let error: NetworksError = "10.0.0.0/33".parse::<Networks>().unwrap_err();
/// assert_eq!(error.to_string(), "'10.0.0.0/33' is not an address, a network such as 10.0.0.0/8, unix or *");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// An item has none of the forms.
    #[error("'{0}' is not an address, a network such as 10.0.0.0/8, unix or *")]
    Form(String),
    /// The address of a network is one within it, so the length may be a mistake.
    #[error("'{given}' has bits behind its prefix; the network is {network}")]
    Host {
        /// The item.
        given: String,
        /// The network that has the address.
        network: String,
    },
}

impl FromStr for Networks {
    type Err = NetworksError;

    fn from_str(text: &str) -> Result<Networks, NetworksError> {
        let mut set = Set::default();
        let mut items = text.split([',', ' ']).filter(|item| !item.is_empty()).peekable();
        if items.peek().is_none() {
            return Ok(Networks::default());
        }
        for item in items {
            match item {
                "*" => set.has_all = true,
                "unix" => set.has_unix = true,
                _ => set.networks.push(network(item)?),
            }
        }
        Ok(Networks(Some(Arc::new(set))))
    }
}

fn network(item: &str) -> Result<IpNet, NetworksError> {
    let parsed = match item.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => item.parse().map_err(|_| NetworksError::Form(item.to_owned())),
    };
    let network: IpNet = parsed?;
    if network.addr() != network.network() {
        return Err(NetworksError::Host { given: item.to_owned(), network: network.trunc().to_string() });
    }
    // The address of a peer is compared in its canonical form.
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(len) = mapped.prefix_len().checked_sub(96)
        && let Ok(network) = Ipv4Net::new(address, len)
    {
        return Ok(network.into());
    }
    Ok(network)
}

/// Formats the set in its text form.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(set) = &self.0 else { return Ok(()) };
        let words = [(set.has_all, "*"), (set.has_unix, "unix")];
        let words = words.into_iter().filter(|(has, _)| *has).map(|(_, word)| word.to_owned());
        let items: Vec<String> = words.chain(set.networks.iter().map(IpNet::to_string)).collect();
        f.write_str(&items.join(","))
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Networks({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_set_has_the_peers_of_its_items() {
        let unix = None;
        let ip = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        for (text, within, others) in [
            ("", vec![], vec![unix, ip("127.0.0.1")]),
            ("*", vec![unix, ip("127.0.0.1"), ip("::1")], vec![]),
            ("unix", vec![unix], vec![ip("127.0.0.1")]),
            ("127.0.0.1", vec![ip("127.0.0.1"), ip("::ffff:127.0.0.1")], vec![ip("127.0.0.2"), unix]),
            ("10.0.0.0/8,::1", vec![ip("10.255.0.1"), ip("::1")], vec![ip("11.0.0.0"), ip("::2")]),
            ("0.0.0.0/0", vec![ip("1.2.3.4")], vec![ip("::1"), unix]),
            (" fd00::/8 , unix,", vec![ip("fd12::1"), unix], vec![ip("fe00::1")]),
            ("::ffff:10.0.0.0/104", vec![ip("10.1.1.1")], vec![ip("11.1.1.1")]),
        ] {
            let set = networks(text);
            assert!(within.iter().all(|peer| set.contains(*peer)), "{text}");
            assert!(others.iter().all(|peer| !set.contains(*peer)), "{text}");
            assert_eq!(networks(&set.to_string()), set, "{text}");
        }
    }

    #[test]
    fn other_items_are_refused() {
        for item in
            ["10.0.0", "10.0.0.0/33", "::/129", "localhost", "10.0.0.0/", "/8", "**", "1.2.3.4:80", "[::1]"]
        {
            assert_eq!(item.parse::<Networks>(), Err(NetworksError::Form(item.to_owned())));
        }
        let error = "unix,10.0.0.1/8".parse::<Networks>().unwrap_err();
        assert_eq!(error.to_string(), "'10.0.0.1/8' has bits behind its prefix; the network is 10.0.0.0/8");
    }
}
