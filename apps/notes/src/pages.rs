//! The pages: whole, without a script, and escaped by the template language, so that what a note says is never
//! markup. A policy (CSP Level 3) tells the browser the same, should that ever fail.

use std::time::{Duration, SystemTime};

use gearshift::{Response, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use crate::store::{Draft, Note};

const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) const STYLE: &str = include_str!("style.css");

/// The notes that were searched for, or all if `search` is empty.
pub(crate) fn list(notes: &[Note], search: &str) -> Response {
    page(
        "Notes",
        &html! {
            form action="/" role="search" {
                input name="q" type="search" value=(search) aria-label="Search" placeholder="Search";
                " " button { "Search" }
            }
            @if notes.is_empty() { p { "No notes." } }
            ul {
                @for note in notes {
                    li { a href={ "/notes/" (note.id) } { (note.title) } " " (edited(note)) }
                }
            }
            h2 { "A new note" }
            (form("/notes", &Draft::default(), None))
        },
    )
}

/// A note, to be read and edited, and what it has said.
pub(crate) fn note(note: &Note, history: &[Note]) -> Response {
    let draft = Draft { title: note.title.clone(), body: note.body.clone() };
    let path = format!("/notes/{}", note.id);
    page(
        &note.title,
        &html! {
            h2 { (note.title) }
            pre { (note.body) }
            (form(&path, &draft, None))
            form method="post" action={ (path) "/delete" } { button { "Delete" } }
            h2 { "History" }
            ul {
                @for past in history {
                    li { (edited(past)) " " b { (past.title) } pre { (past.body) } }
                }
            }
        },
    )
}

/// A form that was not accepted, with what was typed.
pub(crate) fn again(path: &str, draft: &Draft, fault: &str) -> Response {
    page("Not saved", &form(path, draft, Some(fault))).with_status(StatusCode::UNPROCESSABLE_ENTITY)
}

/// What there is to say about a request that failed.
pub(crate) fn failed(status: StatusCode, why: &str) -> Response {
    page(status.canonical_reason().unwrap_or("Failed"), &html! { p role="alert" { (why) } })
        .with_status(status)
}

fn form(path: &str, draft: &Draft, fault: Option<&str>) -> Markup {
    html! {
        form method="post" action=(path) {
            @if let Some(fault) = fault { p role="alert" { (fault) } }
            label { "Title" input name="title" value=(draft.title) required maxlength="200"; }
            // A browser drops the first line break of a text area: this one, not the note's.
            label { "Text" textarea name="body" maxlength="20000" { "\n" (draft.body) } }
            button { "Save" }
        }
    }
}

fn edited(note: &Note) -> Markup {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(note.edited.max(0).cast_unsigned());
    html! { time { (httpdate::fmt_http_date(at)) } }
}

fn page(title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                h1 { a href="/" { "Notes" } }
                (content)
            }
        }
    };
    Response::html(page.into_string())
        .with_header(header::CONTENT_SECURITY_POLICY.as_str(), POLICY)
        .with_header(header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff")
}
