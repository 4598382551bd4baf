//! Two windows of a browser talk through the page.

use gearshift::Backend;
use serde_json::json;

use crate::browser::{Turn, Window};
use crate::start;

/// The lines of the page.
const LINES: &str = "[...document.querySelectorAll('#log li')].map(line => \
                     [line.querySelector('b').textContent, line.lastChild.textContent, line.children.length])";
/// How the page is connected.
const STATE: &str = "document.body.dataset.state";
/// No WebSocket opens, as behind a proxy that does not know them.
const NO_SOCKETS: &str =
    "window.WebSocket = class { constructor() { setTimeout(() => this.onclose({ code: 1006 })); } };";

pub(crate) fn talk(backend: Backend) {
    let server = start(backend);
    let url = |name: &str| format!("http://{}/?room=a+%2F+b&name={name}", server.addr());
    let mut browser = Turn::take();
    let (ada, bob) = (browser.open(&url("Ada")), browser.open(&url("Bob")));
    for window in [&ada, &bob] {
        browser.expect(window, STATE, &json!("socket"));
        browser.expect(window, "document.title", &json!("Room a / b"));
    }
    say(&mut browser, &ada, "hello");
    browser.expect(&bob, LINES, &json!([["Ada", "hello", 1]]));
    // Markup is text.
    say(&mut browser, &bob, "<i>hi</i> & bye");
    let mut lines = vec![json!(["Ada", "hello", 1]), json!(["Bob", "<i>hi</i> & bye", 1])];
    for window in [&ada, &bob] {
        browser.expect(window, LINES, &json!(lines));
    }
    let held =
        format!("document.getElementById('status').textContent.startsWith('{backend} holds 2 clients on ')");
    for window in [&ada, &bob] {
        browser.expect(window, &held, &json!(true));
    }

    // The same page with an event stream, which begins with the history.
    browser.reload_with(&bob, NO_SOCKETS);
    browser.expect(&bob, STATE, &json!("events"));
    browser.expect(&bob, LINES, &json!(lines));
    say(&mut browser, &bob, "by POST");
    lines.push(json!(["Bob", "by POST", 1]));
    browser.expect(&ada, LINES, &json!(lines));
    say(&mut browser, &ada, "by a WebSocket");
    lines.push(json!(["Ada", "by a WebSocket", 1]));
    for window in [&ada, &bob] {
        browser.expect(window, LINES, &json!(lines));
        browser.expect(window, &held, &json!(true));
    }

    let report = server.stop();
    assert_eq!(report.cut, 0, "{report:?}");
    for window in [&ada, &bob] {
        browser.expect(window, STATE, &json!("closed"));
    }
    browser.expect(&ada, "document.body.dataset.closed", &json!("1001"));
    let exceptions = browser.close([ada, bob]);
    assert!(exceptions.is_empty(), "{exceptions:#?}");
}

/// Types a text and sends it.
fn say(browser: &mut Turn, window: &Window, text: &str) {
    let script = format!(
        "document.getElementById('text').value = {}; document.querySelector('form').requestSubmit()",
        json!(text)
    );
    browser.evaluate(window, &script);
    // The field is empty once the message was sent.
    browser.expect(window, "document.getElementById('text').value", &json!(""));
}
