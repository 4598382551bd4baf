//! What is refused, and the text that names it.

use super::*;

/// A certificate and its key in PEM.
fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let own = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (own.cert.pem(), own.signing_key.serialize_pem())
}

#[test]
fn invalid_texts_are_refused_with_the_reason() {
    let (certificate, key) = pair(&["a.test"]);
    let (_, other) = pair(&["a.test"]);
    let text = "the given text";
    for (certificate, key, expected) in [
        (&*certificate, "", format!("{text} holds no private key in the format PEM")),
        ("", &*key, format!("{text} holds no certificate in the format PEM")),
        (&*key, &*key, format!("{text} holds no certificate in the format PEM")),
        (&*certificate, &*certificate, format!("{text} holds no private key in the format PEM")),
        (&*certificate, &*other, format!("the key in {text} does not belong to the certificate in {text}")),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &*key,
            format!("{text} is not valid: "),
        ),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", &*key, format!("{text} is not valid: ")),
    ] {
        let error = TlsConfig::from_pem(certificate, key).expect_err("an invalid text").to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn authorities_are_checked() {
    let (certificate, key) = pair(&["a.test"]);
    for authorities in ["", &*key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let tls = TlsConfig::from_pem(&certificate, &key).expect("a valid pair");
        assert!(tls.with_client_auth(authorities, true).is_err(), "{authorities}");
    }
}

#[test]
fn settings_of_rustls_are_not_changed() {
    let (certificate, key) = pair(&["a.test"]);
    let tls = TlsConfig::from_pem(&certificate, &key).expect("a valid pair");
    let fixed = TlsConfig::from_rustls(tls.current(false)).expect("valid settings");
    assert!(fixed.reload().is_ok());
    let mut invalid = Arc::unwrap_or_clone(tls.current(false));
    invalid.max_fragment_size = Some(1);
    assert!(matches!(TlsConfig::from_rustls(Arc::new(invalid)), Err(TlsError::Settings(_))));
    assert!(fixed.certificates().expect("nothing is read").is_empty());
    assert!(matches!(fixed.clone().with_certificate(&certificate, &key), Err(TlsError::Fixed)));
    assert!(matches!(fixed.with_client_auth(&certificate, true), Err(TlsError::Fixed)));
}

#[test]
fn a_debug_text_has_no_key() {
    let (certificate, key) = pair(&["a.test"]);
    let tls = TlsConfig::from_pem(&certificate, &key).expect("a valid pair");
    assert_eq!(
        format!("{tls:?}"),
        "TlsConfig { certificates: Some([\"the given text\"]), client_auth: None, .. }"
    );
}
