//! The client of a request: the peer of its connection, or the client that trusted proxies name in its fields.
//!
//! The chain of proxies is read when [`Request::client`] is called, so a request whose handler does not ask costs
//! nothing. Nothing is allocated.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

use crate::conn::context::{Peer, RequestContext};
use crate::proto::fields::Fields;
use crate::proto::forwarded::{Element, Node, forwarded, host, is_https, list};
use crate::proto::request::Request;
use crate::runtime::config::{Config, ForwardedField};
use crate::runtime::networks::Networks;

/// The client for which a request was made, from [`Request::client`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Client, Request};
///
/// fn link(request: Request) -> String {
///     let client: Client<'_> = request.client();
///     format!("{}://{}/", client.scheme(), client.host().unwrap_or("localhost"))
/// }
/// assert_eq!(link(Request::get("/").with_header("host", "example.com")), "http://example.com/");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    address: Option<IpAddr>,
    port: Option<u16>,
    is_https: bool,
    host: Option<&'a str>,
}

impl<'a> Client<'a> {
    /// The client that [`Request::client`] returns if a server with these settings receives a request with these fields
    /// from `peer`. This tries settings without a server.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Client, Config, HeaderMap};
    ///
    /// let mut config = Config::default();
    /// config.forwarded_from = "10.0.0.0/8".parse()?;
    /// let mut fields = HeaderMap::new();
    /// fields.insert("x-forwarded-for", "198.51.100.9, 192.0.2.1".parse()?);
    /// let client = Client::of(&config, Some("10.0.0.1:4711".parse()?), &fields);
    /// assert_eq!(client.address(), Some("192.0.2.1".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(config: &Config, peer: Peer, fields: &'a HeaderMap) -> Client<'a> {
        let host = fields.get(header::HOST).and_then(|host| std::str::from_utf8(host.as_bytes()).ok());
        Origin::new(peer, config.tls.is_some(), config).client(fields, host)
    }

    /// The IP address. `None` on a Unix socket, if a trusted proxy hides it (`unknown`), and for a request that no
    /// server has received.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The port, if it is known. Most proxies do not send it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The scheme of the URL that the client uses: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// The host of the URL that the client uses, with its port if it has one. Unless a trusted proxy names another one,
    /// it is the value of `Host`, or the authority of a target that is a whole URL (RFC 9112, 3.2.2). A client may send
    /// any value.
    pub fn host(&self) -> Option<&'a str> {
        self.host
    }
}

/// The facts about a connection from which its client follows.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    /// Whether the peer has encrypted what it sends.
    pub(crate) is_https: bool,
    /// The proxies that are trusted. Empty if the peer is none of them.
    trusted: Networks,
    field: ForwardedField,
}

impl Origin {
    /// The facts about a peer of a server with these settings.
    pub(crate) fn new(peer: Peer, is_https: bool, config: &Config) -> Origin {
        let trusted = &config.forwarded_from;
        let is_trusted = !trusted.is_empty() && trusted.contains(peer.map(|peer| peer.ip()));
        let trusted = if is_trusted { trusted.clone() } else { Networks::default() };
        Origin { peer, is_https, trusted, field: config.forwarded_field }
    }

    /// The facts about a request that no server has received.
    pub(crate) fn unknown() -> Origin {
        Origin { peer: None, is_https: false, trusted: Networks::default(), field: ForwardedField::default() }
    }

    /// Whether the fields of requests name their client.
    #[inline]
    pub(crate) fn is_trusted(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// The client of a request without proxies.
    fn direct<'a>(&self, host: Option<&'a str>) -> Client<'a> {
        let (address, port) = (self.peer.map(|peer| peer.ip()), self.peer.map(|peer| peer.port()));
        Client { address, port, is_https: self.is_https, host }
    }

    /// The client of the request with these fields. `host` is that of the request.
    pub(crate) fn client<'a>(&self, fields: impl Lines<'a>, host: Option<&'a str>) -> Client<'a> {
        let direct = self.direct(host);
        if !self.is_trusted() {
            return direct;
        }
        match self.field {
            ForwardedField::XForwarded => self.by_x_forwarded(fields, direct),
            ForwardedField::Forwarded => self.by_forwarded(fields, direct).unwrap_or(direct),
        }
    }

    /// `None` if the element of the client is malformed.
    fn by_forwarded<'a>(&self, fields: impl Lines<'a>, mut client: Client<'a>) -> Option<Client<'a>> {
        let elements = fields.lines("forwarded").flat_map(forwarded);
        let (Element { node, proto, host: told }, _) = self.furthest(elements, |element| element.node)?;
        let host = told.map(|told| host(told).ok_or(())).transpose().ok()?;
        client.set_node(node)?;
        client.is_https = proto.and_then(is_https).unwrap_or(client.is_https);
        client.host = host.or(client.host);
        Some(client)
    }

    /// The three fields have as many elements as there are proxies, or fewer: a proxy may replace a field that has the
    /// address of its client, and keep one that has the host of the first client.
    fn by_x_forwarded<'a>(&self, fields: impl Lines<'a>, mut client: Client<'a>) -> Client<'a> {
        let elements = fields.lines("x-forwarded-for").flat_map(list);
        let hop = match self.furthest(elements, |element| Node::parse(element, true)) {
            Some((element, hop)) => client.set_node(Node::parse(element, true)).map_or(0, |()| hop),
            None => 0,
        };
        let told = |name| nth_from_the_right(|| fields.lines(name).flat_map(list), hop);
        client.is_https = told("x-forwarded-proto").and_then(is_https).unwrap_or(client.is_https);
        client.host = told("x-forwarded-host").and_then(host).or(client.host);
        client
    }

    /// The last element whose node is not a trusted proxy, or the first one if all are, and the number of elements
    /// behind it.
    fn furthest<E>(
        &self,
        elements: impl Iterator<Item = E>,
        node: impl Fn(&E) -> Node,
    ) -> Option<(E, usize)> {
        let mut client = None;
        for element in elements {
            let is_proxy = match node(&element) {
                Node::Address(address, _) => self.trusted.contains(address),
                Node::Hidden | Node::Omitted | Node::Malformed => self.trusted.is_all(),
            };
            client = match client {
                Some((client, behind)) if is_proxy => Some((client, behind + 1)),
                _ => Some((element, 0)),
            };
        }
        client
    }
}

impl Client<'_> {
    /// Sets the address and the port. `None` if the node is malformed. A node that is omitted changes nothing.
    fn set_node(&mut self, node: Node) -> Option<()> {
        (self.address, self.port) = match node {
            Node::Address(address, port) => (Some(address), port),
            Node::Hidden => (None, None),
            Node::Omitted => (self.address, self.port),
            Node::Malformed => return None,
        };
        Some(())
    }
}

/// The element with `n` elements behind it, or the first one if there are fewer.
fn nth_from_the_right<I: Iterator>(elements: impl Fn() -> I, n: usize) -> Option<I::Item> {
    let last = elements().count().checked_sub(1)?;
    elements().nth(last.saturating_sub(n))
}

/// The header fields of a request, of this crate or of the `http` crate.
pub(crate) trait Lines<'a>: Copy {
    /// The values of all fields with this name, in their order.
    fn lines(self, name: &'static str) -> impl Iterator<Item = &'a [u8]>;
}

impl<'a> Lines<'a> for Fields<'a> {
    fn lines(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name)
    }
}

impl<'a> Lines<'a> for &'a HeaderMap {
    fn lines(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).into_iter().map(|value| value.as_bytes())
    }
}

/// The authority of a target that is a whole URL.
fn authority_of(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    let (_, rest) = target.split_once("://")?;
    rest.split(['/', '?']).next()
}

impl Request {
    /// The client for which the request was made: its address, and the scheme and the host of its URL.
    ///
    /// Without a trusted proxy the address is that of [`Request::peer`], the scheme is that of the connection, and the
    /// host is that of the request. If the peer is in [`Config::forwarded_from`](crate::Config::forwarded_from), the
    /// fields of [`Config::forwarded_field`](crate::Config::forwarded_field) name them. The fields are read at each
    /// call.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// async fn greet(request: Request) -> String {
    ///     match request.client().address() {
    ///         Some(address) => format!("Hello, {address}!"),
    ///         None => "Hello!".to_owned(),
    ///     }
    /// }
    /// # drop(greet);
    /// ```
    pub fn client(&self) -> Client<'_> {
        let host = authority_of(self.target()).or_else(|| self.header(header::HOST));
        match self.context() {
            Some(context) => context.origin.client(self.headers(), host),
            None => Origin::unknown().direct(host),
        }
    }
}

impl RequestContext {
    /// The client for which the request with this URI and these fields was made, as [`Request::client`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Request, RequestContext, header};
    ///
    /// let request = Request::get("/").with_header(header::HOST, "example.com").into_http()?;
    /// let context = RequestContext::of(request.extensions()).expect("the request was a request of this crate");
    /// assert_eq!(context.client(request.uri(), request.headers()).host(), Some("example.com"));
    /// # Ok::<(), gearshift::http::Error>(())
    /// ```
    pub fn client<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Client<'a> {
        let in_field = || std::str::from_utf8(headers.get(header::HOST)?.as_bytes()).ok();
        let host = uri.authority().map(|authority| authority.as_str()).or_else(in_field);
        match self.context() {
            Some(context) => context.origin.client(headers, host),
            None => Origin::unknown().direct(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The client of a request with these fields, as `ADDRESS PORT SCHEME HOST`. The peer is 10.0.0.1. The first field
    /// is of the kind that is read.
    fn client(trusted: &str, fields: &[(&'static str, &str)]) -> String {
        let is_forwarded = fields.first().is_some_and(|(name, _)| *name == "forwarded");
        let field = if is_forwarded { ForwardedField::Forwarded } else { ForwardedField::XForwarded };
        client_by(field, trusted, fields)
    }

    fn client_by(field: ForwardedField, trusted: &str, fields: &[(&'static str, &str)]) -> String {
        let config = Config {
            forwarded_from: trusted.parse().expect("networks"),
            forwarded_field: field,
            ..Config::default()
        };
        let origin = Origin::new("10.0.0.1:4711".parse().ok(), false, &config);
        let mut request = Request::get("/").with_header("host", "inner");
        for (name, value) in fields {
            request = request.append_header(*name, *value);
        }
        let shown = |client: Client<'_>| {
            let dash = "-".to_owned();
            let address = client.address().map_or(dash.clone(), |address| address.to_string());
            let port = client.port().map_or(dash, |port| port.to_string());
            format!("{address} {port} {} {}", client.scheme(), client.host().unwrap_or("-"))
        };
        let native = shown(origin.client(request.headers(), request.header("host")));
        let map = request.headers().to_map();
        assert_eq!(shown(origin.client(&map, Some("inner"))), native, "{fields:?}");
        native
    }

    const DIRECT: &str = "10.0.0.1 4711 http inner";

    #[test]
    fn fields_of_peers_that_are_not_trusted_are_ignored() {
        for trusted in ["", "unix", "10.0.0.2", "192.0.2.0/24"] {
            let fields = [
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "outer"),
                ("forwarded", "for=192.0.2.1;proto=https;host=outer"),
            ];
            assert_eq!(client(trusted, &fields), DIRECT, "{trusted}");
        }
    }

    #[test]
    fn the_client_is_the_first_address_from_the_right_that_is_not_trusted() {
        for (trusted, chain, expected) in [
            ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "192.0.2.9, 192.0.2.1", "192.0.2.1"),
            ("10.0.0.0/8", "192.0.2.9, 192.0.2.1, 10.2.2.2,10.3.3.3", "192.0.2.1"),
            ("10.0.0.0/8", "10.9.9.9, 10.2.2.2", "10.9.9.9"),
            ("*", "192.0.2.9, 192.0.2.1, 10.2.2.2", "192.0.2.9"),
            ("10.0.0.0/8", "nonsense, 192.0.2.1, 10.2.2.2", "192.0.2.1"),
            ("10.0.0.0/8", "unknown, 10.2.2.2", "-"),
            ("10.0.0.0/8", "nonsense, 10.2.2.2", "10.0.0.1"),
            ("10.0.0.0/8", "192.0.2.1, nonsense", "10.0.0.1"),
            ("10.0.0.0/8", "", "10.0.0.1"),
            ("10.0.0.0/8", ",,", "10.0.0.1"),
        ] {
            let first = |told: String| told.split(' ').next().map(str::to_owned).unwrap_or_default();
            assert_eq!(first(client(trusted, &[("x-forwarded-for", chain)])), expected, "{trusted}: {chain}");
            // The same chain in several lines, and as `Forwarded`.
            let lines: Vec<_> = chain.split(',').map(|line| ("x-forwarded-for", line)).collect();
            assert_eq!(first(client(trusted, &lines)), expected, "{trusted}: {chain}");
            let nodes = chain.split(',').map(str::trim).filter(|node| !node.is_empty());
            let nodes: Vec<_> = nodes.map(|node| format!("for={node}")).collect();
            assert_eq!(
                first(client(trusted, &[("forwarded", &nodes.join(", "))])),
                expected,
                "{trusted}: {chain}"
            );
        }
    }

    #[test]
    fn scheme_and_host_come_from_the_proxy_that_names_the_client() {
        let of = "x-forwarded-for";
        let (proto, host) = ("x-forwarded-proto", "x-forwarded-host");
        let one = "10.0.0.0/8";
        for (fields, expected) in [
            (vec![], DIRECT),
            (vec![(proto, "https")], "10.0.0.1 4711 https inner"),
            (vec![(host, "outer:8443")], "10.0.0.1 4711 http outer:8443"),
            (vec![(of, "192.0.2.1:99"), (proto, "HTTPS"), (host, "outer")], "192.0.2.1 99 https outer"),
            // Elements that the client has sent itself.
            (
                vec![(of, "192.0.2.1"), (proto, "https, http"), (host, "evil, outer")],
                "192.0.2.1 - http outer",
            ),
            // Two proxies.
            (
                vec![(of, "192.0.2.1, 10.2.2.2"), (proto, "https, http"), (host, "outer, inner2")],
                "192.0.2.1 - https outer",
            ),
            (vec![(of, "192.0.2.1, 10.2.2.2"), (proto, "https"), (host, "outer")], "192.0.2.1 - https outer"),
            (vec![(proto, "wss")], "10.0.0.1 4711 https inner"),
            (vec![(proto, "gopher"), (host, "a b")], DIRECT),
            (vec![("forwarded", "for=192.0.2.1;proto=https;host=outer")], "192.0.2.1 - https outer"),
            (vec![("forwarded", "for=192.0.2.1;proto=gopher")], "192.0.2.1 - http inner"),
            (vec![("forwarded", "proto=https")], "10.0.0.1 4711 https inner"),
            (vec![("forwarded", "for=192.0.2.1;proto=https;host=\"a b\"")], DIRECT),
            (vec![("forwarded", "for=192.0.2.1;proto=https;host=\"a\\b\"")], DIRECT),
            (vec![("forwarded", "for=192.0.2.1;proto=\"https")], DIRECT),
            // The lines of proxies behind a malformed one.
            (vec![("forwarded", "for=\""), ("forwarded", "for=192.0.2.1")], "192.0.2.1 - http inner"),
        ] {
            assert_eq!(client(one, &fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn fields_of_one_kind_are_read() {
        let x =
            [("x-forwarded-for", "192.0.2.2"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "outer")];
        for value in ["for=192.0.2.1;proto=http;host=other", "for=192.0.2.1", "for=\"", "for=x", ""] {
            let fields = [&x[..], &[("forwarded", value)]].concat();
            let by = |field| client_by(field, "10.0.0.1", &fields);
            assert_eq!(by(ForwardedField::XForwarded), "192.0.2.2 - https outer", "{value}");
            let alone = client_by(ForwardedField::Forwarded, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(by(ForwardedField::Forwarded), alone, "{value}");
            assert_eq!(client_by(ForwardedField::XForwarded, "10.0.0.1", &[("forwarded", value)]), DIRECT);
        }
        assert_eq!(client_by(ForwardedField::Forwarded, "10.0.0.1", &x), DIRECT);
    }

    #[test]
    fn the_authority_of_a_whole_url_is_the_host() {
        for (target, expected) in [
            ("http://outer/a", "outer"),
            ("https://outer:1?b", "outer:1"),
            ("http://outer", "outer"),
            ("/a?b=http://c", "inner"),
            ("*", "inner"),
        ] {
            let request = Request::get(target).with_header("host", "inner");
            assert_eq!(request.client().host(), Some(expected), "{target}");
        }
    }

    proptest! {
        #[test]
        fn what_the_client_has_sent_itself_changes_nothing(text in "[ -~]{0,40}", proto in "[ -~]{0,10}") {
            let honest = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
            let expected = client("10.0.0.0/8", &honest);
            for chain in [format!("{text},192.0.2.1"), format!("{text}, 192.0.2.1, 10.2.2.2")] {
                let proto = format!("{proto},https");
                let fields = [("x-forwarded-for", chain.as_str()), ("x-forwarded-proto", &proto)];
                // Two proxies that share one element for the scheme take the one on its left.
                if !chain.ends_with("10.2.2.2") {
                    prop_assert_eq!(client("10.0.0.0/8", &fields), expected.as_str());
                }
                prop_assert!(client("10.0.0.0/8", &fields).starts_with("192.0.2.1 "));
            }
            let fields = [("forwarded", text.as_str()), ("forwarded", "for=192.0.2.1;proto=https")];
            prop_assert_eq!(client("10.0.0.0/8", &fields), expected);
        }
    }
}
