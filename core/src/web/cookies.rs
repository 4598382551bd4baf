//! Cookies (RFC 6265) by the crate `cookie`: reading, setting and removing them, plain, signed or encrypted.

use cookie::Cookie;
#[cfg(any(feature = "signed-cookies", feature = "private-cookies"))]
use cookie::{CookieJar, Key};
use http::header;

use crate::proto::request::Request;
use crate::proto::response::Response;

impl Request {
    /// The cookies of the request, in the order in which the peer sent them, from all of its `Cookie` fields.
    ///
    /// Names and values are percent-decoded, as [`Response::with_cookie`] encodes them. A pair without a name or
    /// without `=`, and one that is not UTF-8, is left out. A peer decides on all of this: a cookie proves nothing
    /// unless it is signed.
    ///
    /// A browser accepts a cookie whose name begins with `__Host-` or `__Secure-` only from a secure origin. It does
    /// not decode names, so a cookie whose name begins so only after decoding is left out, too.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let request = Request::get("/").with_header("cookie", "theme=dark; nonsense; city=Z%C3%BCrich");
    /// let values: Vec<_> = request.cookies().map(|cookie| cookie.value().to_owned()).collect();
    /// assert_eq!(values, ["dark", "Zürich"]);
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'_>> {
        let pairs = self.headers().get_all("cookie").flat_map(|line| line.split(|&byte| byte == b';'));
        pairs.filter_map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            Cookie::parse_encoded(pair).ok().filter(|cookie| !is_disguised(pair, cookie.name()))
        })
    }

    /// The first cookie with this name; see [`Request::cookies`]. Names are compared with regard to case.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let request = Request::get("/").with_header("cookie", "theme=dark");
    /// assert_eq!(request.cookie("theme").unwrap().value(), "dark");
    /// assert!(request.cookie("Theme").is_none());
    /// ```
    pub fn cookie(&self, name: &str) -> Option<Cookie<'_>> {
        self.cookies().find(|cookie| cookie.name() == name)
    }

    /// The first cookie with this name that [`Response::with_signed_cookie`] has signed with `key`, without its
    /// signature. Cookies with another signature, or with none, are passed over.
    #[cfg(feature = "signed-cookies")]
    pub fn signed_cookie(&self, key: &Key, name: &str) -> Option<Cookie<'static>> {
        let jar = CookieJar::new();
        let mut named = self.cookies().filter(|cookie| cookie.name() == name);
        named.find_map(|cookie| jar.signed(key).verify(cookie.into_owned()))
    }

    /// The first cookie with this name that [`Response::with_private_cookie`] has encrypted with `key`, decrypted.
    /// Cookies that `key` does not decrypt are passed over.
    #[cfg(feature = "private-cookies")]
    pub fn private_cookie(&self, key: &Key, name: &str) -> Option<Cookie<'static>> {
        let jar = CookieJar::new();
        let mut named = self.cookies().filter(|cookie| cookie.name() == name);
        named.find_map(|cookie| jar.private(key).decrypt(cookie.into_owned()))
    }
}

/// The beginnings of names to which browsers apply rules (RFC 6265bis, 4.1.3), compared without regard to case.
const PREFIXES: [&str; 4] = ["__Secure-", "__Host-", "__Http-", "__Host-Http-"];

/// Whether `name` has one of [`PREFIXES`] that it does not have in `pair`, where it is encoded.
fn is_disguised(pair: &str, name: &str) -> bool {
    let has = |text: &str, prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    PREFIXES.iter().any(|prefix| has(name, prefix) && !has(pair.trim_start(), prefix))
}

impl Response {
    /// Sets a cookie by one more `Set-Cookie` field. Name and value are percent-encoded where RFC 6265 requires it, so
    /// that they may be any text.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Response, cookie::Cookie, header};
    ///
    /// let theme = Cookie::build(("theme", "dark; blue")).path("/").http_only(true);
    /// let response = Response::text("set").with_cookie(theme).with_cookie(("seen", "1"));
    /// assert_eq!(response.header(header::SET_COOKIE).unwrap(), "theme=dark%3B%20blue; HttpOnly; Path=/");
    /// assert_eq!(response.headers().filter(|(name, _)| *name == header::SET_COOKIE).count(), 2);
    /// ```
    ///
    /// # Panics
    /// If the path or the domain of the cookie contains a control character.
    #[track_caller]
    pub fn with_cookie<'c>(self, cookie: impl Into<Cookie<'c>>) -> Response {
        let cookie = cookie.into().encoded().to_string();
        self.append_header(header::SET_COOKIE, cookie)
    }

    /// Makes the peer remove a cookie, by one more `Set-Cookie` field with an empty value and a time in the past.
    ///
    /// `cookie` is a name, or a cookie that has the path and the domain with which it was set: a peer tells cookies
    /// apart by all three.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Response, cookie::Cookie, header};
    ///
    /// let response = Response::text("bye").remove_cookie(Cookie::build("session").path("/"));
    /// let field = response.header(header::SET_COOKIE).unwrap().to_str().unwrap();
    /// assert!(field.starts_with("session=; Path=/; Max-Age=0; Expires="));
    /// ```
    ///
    /// # Panics
    /// As [`with_cookie`](Response::with_cookie).
    #[track_caller]
    pub fn remove_cookie<'c>(self, cookie: impl Into<Cookie<'c>>) -> Response {
        let mut cookie = cookie.into();
        cookie.make_removal();
        self.with_cookie(cookie)
    }

    /// Sets a cookie whose value is signed with `key`, so that the peer can read the value and not change it.
    ///
    /// The signature, that of the crate `cookie`, covers the value alone: a peer can move a signed value to a cookie
    /// with another name. Cookies that are trusted for different purposes therefore need different keys, or private
    /// cookies, whose names are covered.
    ///
    /// The application keeps `key`, of at least 64 random bytes, in its configuration: cookies that were signed with
    /// another key do not count.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::cookie::Key;
    /// use gearshift::{Request, Response, header};
    ///
    /// # let from_the_configuration = [7; 64];
    /// let key = Key::from(&from_the_configuration);
    /// let response = Response::text("welcome").with_signed_cookie(&key, ("user", "ada"));
    /// let field = response.header(header::SET_COOKIE).unwrap().to_str().unwrap();
    ///
    /// let request = Request::get("/").with_header("cookie", field);
    /// assert_eq!(request.signed_cookie(&key, "user").unwrap().value(), "ada");
    /// let forged = Request::get("/").with_header("cookie", "user=ada");
    /// assert!(forged.signed_cookie(&key, "user").is_none());
    /// ```
    ///
    /// # Panics
    /// As [`with_cookie`](Response::with_cookie).
    #[cfg(feature = "signed-cookies")]
    #[track_caller]
    pub fn with_signed_cookie(self, key: &Key, cookie: impl Into<Cookie<'static>>) -> Response {
        let mut jar = CookieJar::new();
        jar.signed_mut(key).add(cookie);
        self.with_cookies_of(&jar)
    }

    /// Sets a cookie whose value is encrypted with `key`, so that the peer can neither read nor change it. In all other
    /// respects it is like [`with_signed_cookie`](Response::with_signed_cookie).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::cookie::Key;
    /// use gearshift::{Request, Response, header};
    ///
    /// # let from_the_configuration = [7; 64];
    /// let key = Key::from(&from_the_configuration);
    /// let response = Response::text("noted").with_private_cookie(&key, ("balance", "12"));
    /// let field = response.header(header::SET_COOKIE).unwrap().to_str().unwrap();
    ///
    /// let request = Request::get("/").with_header("cookie", field);
    /// assert_eq!(request.private_cookie(&key, "balance").unwrap().value(), "12");
    /// assert_ne!(request.cookie("balance").unwrap().value(), "12");
    /// ```
    ///
    /// # Panics
    /// As [`with_cookie`](Response::with_cookie).
    #[cfg(feature = "private-cookies")]
    #[track_caller]
    pub fn with_private_cookie(self, key: &Key, cookie: impl Into<Cookie<'static>>) -> Response {
        let mut jar = CookieJar::new();
        jar.private_mut(key).add(cookie);
        self.with_cookies_of(&jar)
    }

    #[cfg(any(feature = "signed-cookies", feature = "private-cookies"))]
    #[track_caller]
    fn with_cookies_of(self, jar: &CookieJar) -> Response {
        jar.iter().fold(self, |response, cookie| response.with_cookie(cookie.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&[u8]]) -> Request {
        let mut request = http::Request::get("/");
        for line in lines {
            request = request.header("Cookie", *line);
        }
        Request::from_http(request.body(()).expect("a request")).expect("a small one")
    }

    /// The values of all `Set-Cookie` fields.
    fn set(response: &Response) -> Vec<&str> {
        let named = response.headers().filter(|(name, _)| *name == header::SET_COOKIE);
        named.map(|(_, value)| value.to_str().expect("text")).collect()
    }

    #[test]
    fn pairs_are_read_from_all_lines_and_malformed_ones_are_left_out() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(&[&[u8]], Pairs); 12] = [
            (&[], &[]),
            (&[b""], &[]),
            (&[b"a=1; b=2", b"c=3"], &[("a", "1"), ("b", "2"), ("c", "3")]),
            (&[b" a=1;b=2;;  ;c=3 ; "], &[("a", "1"), ("b", "2"), ("c", "3")]),
            (&[b"a; =1; =; b=; c=2"], &[("b", ""), ("c", "2")]),
            (&[b"a=1; b=\xff; c=2"], &[("a", "1"), ("c", "2")]),
            (&[b"a=%31%3B%C3%A9; b=%FF; c=%"], &[("a", "1;é"), ("c", "%")]),
            (&[b"a=b=c; a=d"], &[("a", "b=c"), ("a", "d")]),
            (&[b"a=\"1\""], &[("a", "\"1\"")]),
            (&[b"__%48ost-a=1; %5F_host-a=2; __Host-%48ttp-a=3; __Secur%65-a=4; b=5"], &[("b", "5")]),
            (
                &[b" __Host-%C3%A9=1; __secure-a=2; %5F_a=3"],
                &[("__Host-\u{e9}", "1"), ("__secure-a", "2"), ("__a", "3")],
            ),
            (&[b"Path=/; a=1; Max-Age=x"], &[("Path", "/"), ("a", "1"), ("Max-Age", "x")]),
        ];
        for (lines, expected) in cases {
            let request = request(lines);
            let cookies: Vec<_> = request.cookies().collect();
            let pairs: Vec<_> = cookies.iter().map(|cookie| cookie.name_value()).collect();
            assert_eq!(pairs, expected, "{lines:?}");
        }
        let request = request(&[b"a=b", b"a=c; A=d"]);
        let value = |name| request.cookie(name).map(|cookie| cookie.value().to_owned());
        assert_eq!([value("a"), value("A"), value("b")], [Some("b".into()), Some("d".into()), None]);
    }

    #[test]
    fn each_cookie_is_one_field_and_its_text_comes_back() {
        let values = ["", "a", "a b; c=d, \"e\"\\", "é\r\n\0", "%41", "+"];
        let response = values
            .iter()
            .fold(Response::new(()), |response, value| response.with_cookie(("a=;\r\n", *value)));
        assert_eq!(set(&response).len(), values.len());
        for (field, value) in set(&response).into_iter().zip(values) {
            let request = request(&[field.as_bytes()]);
            assert_eq!(request.cookie("a=;\r\n").expect(field).value(), value);
        }
    }

    #[test]
    fn a_removal_has_no_value_and_has_expired() {
        let response = Response::new(()).remove_cookie("a");
        let cookie = Cookie::parse(set(&response)[0]).expect("a cookie");
        assert_eq!((cookie.value(), cookie.max_age()), ("", Some(cookie::time::Duration::ZERO)));
        assert!(cookie.expires_datetime().expect("a time") < cookie::time::OffsetDateTime::now_utc());
    }

    #[cfg(all(feature = "signed-cookies", feature = "private-cookies"))]
    #[test]
    fn only_the_key_that_was_used_counts() {
        type With = fn(&Key, &'static str, &'static str) -> Response;
        type Get = fn(&Request, &Key, &str) -> Option<Cookie<'static>>;
        let (key, other) = (Key::from(&[1; 64]), Key::from(&[2; 64]));
        let signed: (With, Get) = (
            |key, name, value| Response::new(()).with_signed_cookie(key, (name, value)),
            |request, key, name| request.signed_cookie(key, name),
        );
        let private: (With, Get) = (
            |key, name, value| Response::new(()).with_private_cookie(key, (name, value)),
            |request, key, name| request.private_cookie(key, name),
        );
        for ((with, get), covers_name) in [(signed, false), (private, true)] {
            let response = with(&key, "user", "ada; é");
            let field = set(&response)[0];
            let (_, value) = field.split_once('=').expect("a pair");
            let read = |line: &str, key: &Key, name| {
                get(&request(&[line.as_bytes()]), key, name).map(|cookie| cookie.value().to_owned())
            };
            assert_eq!(read(field, &key, "user").as_deref(), Some("ada; é"));
            // A cookie of another origin with the same name does not hide the one that counts.
            assert_eq!(read(&format!("user=eve; {field}"), &key, "user").as_deref(), Some("ada; é"));
            assert_eq!(read(field, &other, "user"), None);
            // The signature does not cover the name; the encryption does.
            let moved = read(&format!("admin={value}"), &key, "admin");
            assert_eq!(moved.as_deref(), covers_name.then_some("ada; é").xor(Some("ada; é")));
            assert_eq!(read("user=ada", &key, "user"), None);
            for at in (0..value.len()).filter(|at| value.as_bytes()[*at] != b'%') {
                let mut forged = value.to_owned();
                forged.replace_range(at..=at, if value.as_bytes()[at] == b'A' { "B" } else { "A" });
                let read = read(&format!("user={forged}"), &key, "user");
                assert!(read.is_none() || read.as_deref() == Some("ada; é"), "{forged}");
            }
        }
    }
}
