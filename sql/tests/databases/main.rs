//! The interface on every backend, with a file of SQLite and with a PostgreSQL server that is started for it; where
//! there is none, its cases are ignored, and a line says so.

mod case;
mod connections;
mod migrations;
mod peers;
mod servers;
mod transactions;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use cluster::Cluster;
use gearshift::{Backend, BoxFuture};
use libtest_mimic::{Arguments, Trial};

use case::Case;

type Test = (&'static str, fn(Case) -> BoxFuture<()>);

/// A table of tests that are `async fn(Case)`.
macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => {
        &[$($((stringify!($name), |case| Box::pin($module::$name(case)))),*),*]
    };
}

const TESTS: &[Test] = tests! {
    values: values_come_back_as_they_went rows_are_read_by_name_by_position_and_alone parameters_have_numbers
        refuses_values_that_do_not_fit refuses_rows_that_do_not_fit refuses_the_wrong_call counts_changed_rows;
    transactions: is_whole_or_not_at_all sees_its_own_changes is_over_after_a_failure is_rolled_back_when_dropped
        is_rolled_back_when_a_call_is_dropped;
    connections: eleven_share_ten patience_has_an_end statements_have_an_end dropped_reads_are_cut_short
        rows_have_a_limit keeps_no_more_statements_than_it_may a_closed_database_is_away
        what_blocks_is_a_job may_outlive_their_server;
    migrations: come_once_in_order newer_databases_are_left_alone four_programs_start_at_once
        a_step_that_fails_leaves_nothing databases_that_are_none;
    peers: a_peer_that_leaves_takes_its_change_with_it;
};

const TESTS_OF_A_FILE: &[Test] = tests! {
    migrations: another_program_is_waited_for_within_patience;
};

const TESTS_OF_A_SERVER: &[Test] = tests! {
    servers: survives_a_restart gives_up_a_silent_server refuses_types_without_a_value values_fit_or_are_refused
        prepares_anew_what_has_changed;
};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cluster = (!arguments.list).then(Cluster::start).unwrap_or(Err("nothing is run")).map(Arc::new);
    if let Err(why) = &cluster {
        eprintln!("without PostgreSQL: {why}");
    }
    // Some tests take their server away.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for backend in Backend::available() {
        for (name, test) in TESTS.iter().chain(TESTS_OF_A_FILE) {
            trials.push(trial(&format!("sqlite::{backend}::{name}"), *test, *backend, None));
        }
        for (name, test) in TESTS.iter().chain(TESTS_OF_A_SERVER) {
            let name = format!("postgres::{backend}::{name}");
            let cluster = cluster.as_ref().ok().cloned();
            let missing = cluster.is_none();
            trials.push(trial(&name, *test, *backend, cluster).with_ignored_flag(missing));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(cluster);
    conclusion.exit_code()
}

fn trial(
    name: &str,
    test: fn(Case) -> BoxFuture<()>,
    backend: Backend,
    cluster: Option<Arc<Cluster>>,
) -> Trial {
    Trial::test(name, move || {
        case::run(backend, cluster, test);
        Ok(())
    })
}
