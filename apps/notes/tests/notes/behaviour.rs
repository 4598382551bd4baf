//! Pages, forms and JSON as a client sees them.

use std::time::Duration;

use serde_json::json;

use crate::Case;
use crate::program::FORM;

pub(crate) fn a_note_lives_through_forms(case: &Case) {
    let notes = case.start();
    assert!(notes.get("/").body.contains("No notes."));
    let added = notes.form("/notes", "Milk", "two\r\nlitres");
    assert_eq!((added.status, &*added.body), (303, ""));
    let path = added.field("Location").to_owned();
    let shown = notes.get(&path);
    assert_eq!((shown.status, shown.field("Content-Type")), (200, "text/html; charset=utf-8"));
    assert!(shown.body.contains("<pre>two\nlitres</pre>"), "{}", shown.body);
    assert!(notes.get("/").body.contains(&format!("<a href=\"{path}\">Milk</a>")));

    let edited = notes.form(&path, "Oat milk", "one litre");
    assert_eq!((edited.status, edited.field("Location")), (303, &*path));
    let shown = notes.get(&path).body;
    assert!(shown.contains("<h2>Oat milk</h2>") && shown.contains("<b>Milk</b>"), "{shown}");

    assert_eq!(notes.request("HEAD", &path, "", "").body, "");
    let deleted = notes.request("POST", &format!("{path}/delete"), "", "");
    assert_eq!((deleted.status, deleted.field("Location")), (303, "/"));
    assert!(notes.get("/").body.contains("No notes."));
    for response in [
        notes.get(&path),
        notes.form(&path, "late", ""),
        notes.request("POST", &format!("{path}/delete"), "", ""),
    ] {
        assert_eq!(response.status, 404);
        assert!(response.body.starts_with("<!DOCTYPE html>") && response.body.contains("no such note"));
    }
    for id in ["0x1", "99999999999999999999"] {
        let response = notes.get(&format!("/notes/{id}"));
        assert_eq!(response.status, 404);
        assert!(response.body.starts_with("<!DOCTYPE html>") && response.body.contains("no valid id"));
    }
    notes.stop();
}

pub(crate) fn text_is_never_markup(case: &Case) {
    const TITLE: &str = "\"><script>alert('1')</script>&amp;";
    const BODY: &str = "</textarea></pre><img src=x onerror=alert(2)>";
    let notes = case.start();
    let path = notes.form("/notes", TITLE, BODY).field("Location").to_owned();
    let query = "%22%3E%3Cscript%3E";
    let found = notes.get(&format!("/?q={query}"));
    assert!(
        found.body.contains(&path) && found.body.contains("value=\"&#34;&#62;&#60;script&#62;\""),
        "{}",
        found.body
    );
    let refused = notes.form("/notes", &format!("{TITLE}{}", "x".repeat(200)), BODY);
    assert_eq!(refused.status, 422);
    for response in [found, notes.get("/"), notes.get(&path), refused] {
        let page = &response.body;
        assert!(page.contains("&#34;&#62;&#60;script&#62;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("\"\">"), "{page}");
        assert_eq!(page.matches("</textarea>").count(), page.matches("<textarea").count(), "{page}");
        assert!(
            response.field("Content-Security-Policy").starts_with("default-src 'none';"),
            "{}",
            response.head
        );
    }
    let note = &notes.get("/api/notes").value()[0];
    assert_eq!((note["title"].as_str(), note["body"].as_str()), (Some(TITLE), Some(BODY)));
    notes.stop();
}

pub(crate) fn refuses_forms_that_are_no_note(case: &Case) {
    let notes = case.start();
    for (title, body, fault) in [
        ("", "typed", "needs a title"),
        (" \t", "typed", "needs a title"),
        (&*"ü".repeat(201), "typed", "at most 200"),
        ("title", &*format!("typed{}", "ü".repeat(20_000)), "at most 20,000"),
        ("NUL\0", "typed", "without NUL"),
    ] {
        let response = notes.form("/notes", title, body);
        assert_eq!(response.status, 422, "{title}");
        assert!(response.body.contains(fault) && response.body.contains(">\ntyped"), "{}", response.body);
    }
    let largest = notes.form("/notes", &"ü".repeat(200), &"\u{10348}".repeat(20_000));
    assert_eq!(largest.status, 303);
    assert_eq!(notes.form("/notes", "title", &"x".repeat(256 * 1024)).status, 413);
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("none", 303)] {
        let fields = format!("{FORM}Sec-Fetch-Site: {site}\r\n");
        assert_eq!(notes.request("POST", "/notes", &fields, "title=t").status, status, "{site}");
    }
    assert_eq!(notes.get("/api/notes").value().as_array().map(Vec::len), Some(3));
    notes.stop();
}

pub(crate) fn searches_for_what_is_typed(case: &Case) {
    let notes = case.start();
    for (title, body) in [("100%", "a_b"), ("100 percent", "aXb"), ("back\\slash", ""), ("Über", "it's")] {
        assert_eq!(notes.form("/notes", title, body).status, 303);
    }
    for (query, titles) in [
        ("", "Über|back\\slash|100 percent|100%"),
        ("%25", "100%"),
        ("_", "100%"),
        ("A_B", "100%"),
        ("%5C", "back\\slash"),
        ("PERCENT", "100 percent"),
        ("%C3%9Cb", "Über"),
        ("it%27s", "Über"),
        ("nowhere", ""),
    ] {
        let found = notes.get(&format!("/api/notes?q={query}")).value();
        let found: Vec<_> =
            found.as_array().into_iter().flatten().filter_map(|note| note["title"].as_str()).collect();
        assert_eq!(found.join("|"), titles, "{query}");
    }
    assert_eq!(notes.get("/?q=%00").status, 400);
    notes.stop();
}

pub(crate) fn text_comes_back_as_it_was_sent(case: &Case) {
    let notes = case.start();
    for text in ["';--$1?\\", "\u{fc}\u{10348}", "{{ title }}", "NULL", "x'00'", "1e3", "\u{7f}\u{200b}"] {
        let body = text.repeat(1_000);
        let draft = json!({ "title": text, "body": body });
        let path = notes.json("POST", "/api/notes", &draft.to_string()).field("Location").to_owned();
        let note = notes.get(&path).value();
        assert_eq!((&note["title"], &note["body"]), (&json!(text), &json!(body)));
    }
    notes.stop();
}

pub(crate) fn lists_have_at_most_100_entries(case: &Case) {
    let notes = case.start();
    let path = notes.json("POST", "/api/notes", r#"{"title":"first"}"#).field("Location").to_owned();
    let insert = |numbers| {
        format!(
            "INSERT INTO notes (title, body, edited) SELECT 'more', '', '' FROM ({numbers}) AS n;
             INSERT INTO revisions (note, title, body, edited)
                 SELECT notes.id, 'more', '', '' FROM notes, ({numbers}) AS n WHERE notes.title = 'first'"
        )
    };
    case.run(
        &insert(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200) SELECT n FROM c",
        ),
        &insert("SELECT generate_series(1, 200)"),
    );
    for path in ["/api/notes", &format!("{path}/history")] {
        assert_eq!(notes.get(path).value().as_array().map(Vec::len), Some(100), "{path}");
    }
    notes.stop();
}

pub(crate) fn the_last_edited_is_first(case: &Case) {
    let notes = case.start();
    let a_moment = || std::thread::sleep(Duration::from_millis(2));
    let first = notes.json("POST", "/api/notes", r#"{"title":"first"}"#).field("Location").to_owned();
    a_moment();
    notes.json("POST", "/api/notes", r#"{"title":"second"}"#);
    let titles = || {
        let listed = notes.get("/api/notes").value();
        [0, 1].map(|at| listed[at]["title"].as_str().expect("two notes").to_owned())
    };
    assert_eq!(titles(), ["second", "first"]);
    a_moment();
    let edited = notes.json("PUT", &first, r#"{"title":"third"}"#).value();
    assert_eq!(titles(), ["third", "second"]);
    let when = edited["edited"].as_str().expect("a time");
    let since = jiff::Timestamp::now().duration_since(when.parse().expect("a time of RFC 3339"));
    assert!(when.ends_with('Z') && since.unsigned_abs() < Duration::from_secs(60), "{when}");
    notes.stop();
}

pub(crate) fn json_reports_faults_by_status(case: &Case) {
    let notes = case.start();
    let added = notes.json("POST", "/api/notes", r#"{"title":"a","body":"b"}"#);
    assert_eq!(added.status, 201);
    let path = added.field("Location").to_owned();
    let note = added.value();
    assert_eq!((&note["title"], &note["body"]), (&json!("a"), &json!("b")));
    assert_eq!(path, format!("/api/notes/{}", note["id"]));
    assert_eq!(notes.get(&path).value(), note);

    let edited = notes.json("PUT", &path, r#"{"title":"c"}"#);
    assert_eq!(
        (edited.status, &edited.value()["title"], &edited.value()["body"]),
        (200, &json!("c"), &json!(""))
    );
    let history = notes.get(&format!("{path}/history")).value();
    assert_eq!(
        (&history[0]["title"], &history[1]["title"], &history[2]),
        (&json!("c"), &json!("a"), &json!(null))
    );

    let largest = format!(r#"{{"title":"{}"}}"#, "x".repeat(256 * 1024));
    for (method, path, body, status) in [
        ("POST", "/api/notes", "{", 400),
        ("POST", "/api/notes", r#"{"body":"b"}"#, 400),
        ("POST", "/api/notes", r#"{"title":""}"#, 422),
        ("POST", "/api/notes", r#"{"title":"\u0000"}"#, 422),
        ("POST", "/api/notes", &largest, 413),
        ("PUT", &path, r#"{"title":" "}"#, 422),
        ("PUT", "/api/notes/0", r#"{"title":"t"}"#, 404),
        ("DELETE", "/api/notes/0", "", 404),
        ("GET", "/api/notes/0", "", 404),
        ("GET", "/api/notes/one", "", 404),
        ("GET", "/api/notes/0/history", "", 404),
    ] {
        let response = notes.json(method, path, body);
        assert_eq!(response.status, status, "{method} {path} {}", response.body);
        assert!(response.value()["error"].is_string(), "{}", response.body);
    }
    assert_eq!(
        notes.request("POST", "/api/notes", "Content-Type: text/plain\r\n", r#"{"title":"t"}"#).status,
        415
    );
    assert_eq!(notes.json("PATCH", &path, "{}").status, 405);
    assert_eq!(notes.get(&path).value(), edited.value());

    let deleted = notes.json("DELETE", &path, "");
    assert_eq!((deleted.status, &*deleted.body), (204, ""));
    assert_eq!(notes.get(&path).status, 404);
    assert_eq!(notes.get(&format!("{path}/history")).status, 404);
    notes.stop();
}
