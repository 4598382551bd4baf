//! Every test on every backend that is compiled in, over real sockets: one named case for each pair.
//!
//! `cargo test --test backends -- mio::` runs the cases of one backend, `-- wire::head` those of one file in
//! `tests/wire`. The cases of one process share the server of the wire cases, and nothing else.

mod access;
mod access_log;
mod after;
mod bodies;
mod bridge;
mod case;
mod closing;
mod conformance;
mod crowd;
mod descriptors;
mod detached;
mod disconnects;
mod drops;
mod groups;
mod h2;
mod half_closed;
mod held;
mod holding;
mod hyper;
mod limits;
mod listen;
mod panics;
mod proxies;
mod real_proxies;
mod runtime;
mod seeing;
mod serving;
mod settings;
mod shared;
mod shutdown;
mod sse;
mod stalls;
mod stats;
mod stopping;
mod tasks;
mod tls;
mod tokio_only;
mod trailers;
mod upgrade;
mod uploads;
mod waits;
mod web;
mod wire;
mod wrapped;
mod ws;

use std::process::ExitCode;

use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};
use test_support::backend::{blocks, concurrency, keeps_connections_on_loops};
use test_support::suite::{self, Area, Only};
use test_support::{app, logs, program};

const AREAS: [Area; 43] = [
    access::AREA,
    access_log::AREA,
    after::AREA,
    bodies::AREA,
    bridge::AREA,
    closing::AREA,
    crowd::AREA,
    descriptors::AREA,
    detached::AREA,
    disconnects::AREA,
    drops::AREA,
    groups::AREA,
    h2::AREA,
    h2::WITHOUT,
    half_closed::AREA,
    held::AREA,
    holding::AREA,
    hyper::AREA,
    limits::AREA,
    listen::AREA,
    panics::AREA,
    proxies::AREA,
    real_proxies::AREA,
    runtime::AREA,
    seeing::AREA,
    serving::AREA,
    settings::AREA,
    shared::AREA,
    shutdown::AREA,
    sse::AREA,
    stalls::AREA,
    stats::AREA,
    stopping::AREA,
    tasks::AREA,
    tls::AREA,
    tokio_only::AREA,
    trailers::AREA,
    upgrade::AREA,
    uploads::AREA,
    waits::AREA,
    web::AREA,
    wrapped::AREA,
    ws::AREA,
];

/// The tests that make sense on some backends only.
const ONLY: [Only; 28] = [
    // HTTP/2 is spoken on event loops.
    ("h2", suite::ALL, is_event_loop),
    ("no_h2", suite::ALL, blocks),
    // A backend that blocks runs these jobs on the thread of the request and queues nothing.
    ("bridge", "handlers_beyond_the_queue_are_refused_where_that_is_the_setting", is_event_loop),
    ("bridge", "handlers_beyond_the_queue_wait_where_that_is_the_setting", is_event_loop),
    ("tasks", "a_queued_job_that_is_dropped_is_not_run", is_event_loop),
    // These need a second thread, or an event loop.
    ("bridge", "a_full_pool_delays_neither_sync_routes_nor_the_other_pool", serves_concurrently),
    ("tasks", "blocking_jobs_block_nobody_else", serves_concurrently),
    ("stopping", "a_blocking_request_does_not_delay_the_backlog", serves_concurrently),
    // A detached handler of an event loop is a background task, which must not block.
    ("detached", "a_detached_handler_that_blocks_delays_no_task", blocks),
    ("detached", "detached_handlers_that_block_leave_the_other_threads_free", has_a_pool),
    // Requests wait for a thread only where threads block.
    ("disconnects", "requests_whose_peers_have_left_are_not_started", blocks),
    ("uploads", "a_reader_in_place_reads_an_upload_as_it_arrives", blocks),
    ("held", "handlers_do_not_overlap_on_a_thread_while_one_waits", blocks),
    ("serving", "requests_never_overlap_on_one_thread", serves_one_at_a_time),
    ("serving", "requests_overlap_on_all_threads_of_a_pool", has_a_pool),
    ("serving", "requests_that_block_among_quick_ones_overlap_on_all_threads_of_a_pool", has_a_pool),
    ("serving", "late_wake_ups_of_handlers_keep_no_thread_of_a_pool_from_its_work", has_a_pool),
    // A thread is held only where threads block.
    ("holding", "the_body_is_polled_on_the_thread_of_its_handler", blocks),
    ("holding", "a_body_that_blocks_reads_a_large_request", blocks),
    ("holding", "work_that_the_body_offloads_runs_in_place", blocks),
    ("holding", "the_token_of_a_body_that_blocks_sees_the_peer_leave", blocks),
    // The threads of some event loops are those of another runtime.
    ("wrapped", "handlers_of_a_blocking_backend_run_inside_the_wrapper", blocks),
    // Where a connection stays on the loop that has accepted it.
    ("shared", "connections_to_a_shared_listener_go_to_all_loops", keeps_connections_on_loops),
    ("shared", "a_loop_that_is_held_delays_no_connection_to_a_shared_listener", keeps_connections_on_loops),
    ("shared", "a_loop_that_is_held_delays_no_connection_that_waits_for_room", keeps_connections_on_loops),
    // A number that the model has no room for.
    ("settings", "a_number_of_threads_is_refused", is_not_a_pool),
    ("settings", "more_than_one_worker_is_refused", blocks),
    ("settings", "one_worker_is_accepted", blocks),
];

fn is_event_loop(backend: Backend) -> bool {
    !blocks(backend)
}

fn serves_one_at_a_time(backend: Backend) -> bool {
    concurrency(backend) == Some(1)
}

fn serves_concurrently(backend: Backend) -> bool {
    !serves_one_at_a_time(backend)
}

fn has_a_pool(backend: Backend) -> bool {
    concurrency(backend).is_some_and(|threads| threads > 1)
}

fn is_not_a_pool(backend: Backend) -> bool {
    !has_a_pool(backend)
}

fn main() -> ExitCode {
    if let Some(status) = program::run_if_asked_to() {
        return status;
    }
    program::allow_many_descriptors();
    app::silence_panics_on_purpose();
    logs::keep();
    let mut trials = vec![wire::same_bytes_everywhere()];
    for &backend in Backend::available() {
        trials.extend(wire::trials(backend));
    }
    trials.extend(suite::cases(&AREAS, &ONLY).into_iter().map(|case| {
        Trial::test(case.full_name(), move || {
            case.run();
            Ok(())
        })
    }));
    trials.push(conformance::decisions());
    trials.push(conformance::trial(&trials));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
