//! The application on every backend, with a SQLite file and with a PostgreSQL server that the tests start.
//!
//! Without the programs of PostgreSQL its cases are reported as ignored; with `REQUIRE_POSTGRES` in the environment, as
//! `.ci/run` sets it, that is an error.

mod behaviour;
mod case;
mod cluster;
mod limits;
mod program;
mod server;
mod start;
mod transactions;

use std::process::ExitCode;
use std::sync::Arc;

use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};

use case::Case;
use cluster::Cluster;

type Test = (&'static str, fn(&Case));

const TESTS: &[Test] = &[
    ("a_note_lives_through_forms", behaviour::a_note_lives_through_forms),
    ("text_is_never_markup", behaviour::text_is_never_markup),
    ("text_comes_back_as_it_was_sent", behaviour::text_comes_back_as_it_was_sent),
    ("refuses_forms_that_are_no_note", behaviour::refuses_forms_that_are_no_note),
    ("searches_for_what_is_typed", behaviour::searches_for_what_is_typed),
    ("the_last_edited_is_first", behaviour::the_last_edited_is_first),
    ("lists_have_at_most_100_entries", behaviour::lists_have_at_most_100_entries),
    ("json_reports_faults_by_status", behaviour::json_reports_faults_by_status),
    ("keeps_notes_when_it_is_started_again", start::keeps_notes_when_it_is_started_again),
    ("migrates_an_older_database", start::migrates_an_older_database),
    ("leaves_a_newer_database_alone", start::leaves_a_newer_database_alone),
    ("a_migration_that_fails_leaves_nothing", start::a_migration_that_fails_leaves_nothing),
    ("four_programs_start_at_once", start::four_programs_start_at_once),
    ("waits_for_another_program_that_migrates", start::waits_for_another_program_that_migrates),
    ("does_not_start_without_a_database", start::does_not_start_without_a_database),
    ("a_change_is_whole_or_not_at_all", transactions::a_change_is_whole_or_not_at_all),
    ("a_peer_that_leaves_ends_its_change", transactions::a_peer_that_leaves_ends_its_change),
    ("a_peer_that_leaves_ends_its_statement", transactions::a_peer_that_leaves_ends_its_statement),
    ("eleven_clients_share_ten_connections", limits::eleven_clients_share_ten_connections),
    ("the_wait_for_a_connection_ends", limits::the_wait_for_a_connection_ends),
    ("statements_have_an_end", limits::statements_have_an_end),
];

const TESTS_OF_A_SERVER: &[Test] = &[
    ("survives_a_restart", server::survives_a_restart),
    ("gives_up_a_silent_connection", server::gives_up_a_silent_connection),
    ("gives_up_an_idle_silent_connection", server::gives_up_an_idle_silent_connection),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cluster = if arguments.list { Err("tests are only listed") } else { Cluster::start() }.map(Arc::new);
    match &cluster {
        Err(missing) if !arguments.list && std::env::var_os("REQUIRE_POSTGRES").is_some() => {
            eprintln!("error: REQUIRE_POSTGRES is set, and {missing}");
            return ExitCode::FAILURE;
        }
        Err(missing) => eprintln!("the tests that need PostgreSQL are ignored: {missing}"),
        Ok(_) => {}
    }
    // Some tests stop the PostgreSQL server.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for backend in Backend::available() {
        for (name, test) in TESTS {
            trials.push(trial(&format!("sqlite::{backend}::{name}"), *test, *backend, None));
        }
        for (name, test) in TESTS.iter().chain(TESTS_OF_A_SERVER) {
            let name = format!("postgres::{backend}::{name}");
            let cluster = cluster.as_ref().ok().cloned();
            let missing = cluster.is_none();
            let trial = trial(&name, *test, *backend, cluster).with_ignored_flag(missing);
            trials.push(if missing { trial.with_kind("needs PostgreSQL") } else { trial });
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(cluster);
    conclusion.exit_code()
}

fn trial(name: &str, test: fn(&Case), backend: Backend, cluster: Option<Arc<Cluster>>) -> Trial {
    Trial::test(name, move || {
        test(&Case::new(backend, cluster));
        Ok(())
    })
}
