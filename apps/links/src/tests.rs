//! Tests of handlers without sockets, and one of the whole service.

use std::env::temp_dir;
use std::time::Duration;

use futures_lite::future::block_on;
use gearshift::{Backend, Handler, Request, Response, StatusCode, TestServer};
use serde_json::{Value, json};

use crate::state::Links;
use crate::store::Settings;
use crate::{api, app};

fn settings() -> Settings {
    Settings {
        files: temp_dir(),
        links: temp_dir().join("no-such-directory/links.json"),
        token: "secret".into(),
        titles: "http://127.0.0.1:9/".into(),
        key: vec![7; 64],
        timeout: Duration::from_secs(10),
    }
}

fn call(api: &impl Handler, request: Request) -> Response {
    block_on(api.call(request).response())
}

#[test]
fn a_name_is_given_once() {
    let api = api::routes().with_state(Links::open(settings()).expect("no links"));
    let link = json!({ "name": "a", "url": "http://a/" });
    let create = || Request::post("/links").with_json(&link);
    assert_eq!(call(&api, create()).status(), StatusCode::CREATED);
    assert_eq!(call(&api, create()).status(), StatusCode::CONFLICT);
    let response = call(&api, Request::get("/links/a"));
    let body: Value = block_on(response.into_body().json()).expect("JSON");
    assert_eq!(body, link);
}

#[test]
fn a_link_leads_to_its_url() {
    let backend = Backend::default().expect("a backend");
    let server = TestServer::start(backend, app(settings())).expect("a server");
    let form = Request::post("/new").with_form(&[("name", "a"), ("url", "http://a/")]);
    assert_eq!(server.send(form).status(), StatusCode::SEE_OTHER);
    let response = server.get("/go/a");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.header("location"), Some("http://a/"));
}
