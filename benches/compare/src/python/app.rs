//! The Python applications under load: one module of `benches/python` each.

/// The interface between a server and an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// PEP 3333: a call for each request, on a thread.
    Wsgi,
    /// ASGI 3: a coroutine for each request, on an event loop.
    Asgi,
}

impl Interface {
    /// The name on the command lines of servers.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Wsgi => "wsgi",
            Interface::Asgi => "asgi",
        }
    }

    /// The name in prose.
    pub fn title(self) -> &'static str {
        match self {
            Interface::Wsgi => "WSGI",
            Interface::Asgi => "ASGI",
        }
    }
}

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum App {
    /// A WSGI callable without a framework.
    RawWsgi,
    /// An ASGI callable without a framework.
    RawAsgi,
    /// Flask, over WSGI.
    Flask,
    /// FastAPI, over ASGI.
    #[value(name = "fastapi")]
    FastApi,
    /// Starlette, over ASGI.
    Starlette,
}

impl App {
    /// The applications that are measured by default. Starlette is left out, because FastAPI is built on it.
    pub const DEFAULT: [App; 4] = [App::RawWsgi, App::RawAsgi, App::Flask, App::FastApi];

    /// The interface that the application has.
    pub fn interface(self) -> Interface {
        match self {
            App::RawWsgi | App::Flask => Interface::Wsgi,
            App::RawAsgi | App::FastApi | App::Starlette => Interface::Asgi,
        }
    }

    /// The name on the command line, and the start of the ids of its scenarios.
    pub fn name(self) -> &'static str {
        match self {
            App::RawWsgi => "raw-wsgi",
            App::RawAsgi => "raw-asgi",
            App::Flask => "flask",
            App::FastApi => "fastapi",
            App::Starlette => "starlette",
        }
    }

    /// The name in titles.
    pub fn title(self) -> &'static str {
        match self {
            App::RawWsgi => "Raw WSGI",
            App::RawAsgi => "Raw ASGI",
            App::Flask => "Flask",
            App::FastApi => "FastAPI",
            App::Starlette => "Starlette",
        }
    }

    /// The module of the application.
    pub fn module(self) -> &'static str {
        match self {
            App::RawWsgi => "raw_wsgi",
            App::RawAsgi => "raw_asgi",
            App::Flask => "flask_app",
            App::FastApi => "fastapi_app",
            App::Starlette => "starlette_app",
        }
    }

    /// The package that the application needs.
    pub fn package(self) -> Option<&'static str> {
        match self {
            App::RawWsgi | App::RawAsgi => None,
            App::Flask => Some("flask"),
            App::FastApi => Some("fastapi"),
            App::Starlette => Some("starlette"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn names_on_the_command_line_are_the_names_of_the_ids() {
        for app in App::value_variants() {
            let value = app.to_possible_value().expect("no application is hidden");
            assert_eq!(value.get_name(), app.name());
        }
    }

    #[test]
    fn each_application_has_its_module() {
        for app in App::value_variants() {
            let module = Path::new(super::super::server::MODULES).join(app.module()).with_extension("py");
            assert!(module.is_file(), "{}", module.display());
        }
    }
}
