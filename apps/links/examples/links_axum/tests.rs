//! Tests of handlers without sockets, and one of the whole service.

use std::env::temp_dir;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use links::store::Settings;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::state::Links;
use crate::{api, router};

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

async fn call(api: &Router, request: Request<Body>) -> Response {
    api.clone().oneshot(request).await.expect("an answer")
}

#[tokio::test]
async fn a_name_is_given_once() {
    let api = api::routes().with_state(Links::open(settings()).expect("no links"));
    let link = json!({ "name": "a", "url": "http://a/" });
    let create = || {
        Request::post("/links")
            .header("content-type", "application/json")
            .body(Body::from(link.to_string()))
            .expect("a request")
    };
    assert_eq!(call(&api, create()).await.status(), StatusCode::CREATED);
    assert_eq!(call(&api, create()).await.status(), StatusCode::CONFLICT);
    let response = call(&api, Request::get("/links/a").body(Body::empty()).expect("a request")).await;
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON"), link);
}

#[tokio::test]
async fn a_link_leads_to_its_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let app = router(&Links::open(settings()).expect("no links"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let form = client
        .post(format!("{url}/new"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("name=a&url=http://a/");
    assert_eq!(form.send().await.expect("an answer").status(), StatusCode::SEE_OTHER);
    let response = client.get(format!("{url}/go/a")).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "http://a/");
}
