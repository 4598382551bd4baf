//! HTTP/2 on the event loops, and HTTP/1.1 alone on the backends whose threads block. The peer is the client of the
//! crate `h2`, a list of frames, and, where they are installed, curl, nghttp, h2load and gRPC for Python.

mod app;
mod beginning;
mod bodies;
mod closing;
mod deadlines;
mod floods;
mod grpc;
mod heads;
mod peer;
mod programs;
mod raw;
mod records;
mod streams;

use test_support::suite::Area;

/// The tests of the backends that speak HTTP/2.
pub(crate) const AREA: Area = (
    "h2",
    &[
        ("answers_a_preface_without_tls", beginning::prior_knowledge),
        ("takes_the_preface_byte_by_byte", beginning::chopped_preface),
        ("is_negotiated_over_tls", beginning::negotiated),
        ("needs_the_negotiation_over_tls", beginning::not_negotiated),
        ("can_be_switched_off", beginning::switched_off),
        ("refuses_a_preface_behind_a_request", beginning::late_preface),
        ("begins_after_the_header_of_a_proxy", beginning::proxy_header),
        ("answers_requests_in_the_order_of_their_ends", streams::interleaved),
        ("answers_many_requests_at_once", streams::many),
        ("refuses_requests_beyond_the_limit_of_streams", streams::too_many_streams),
        ("takes_a_body_as_the_handler_reads_it", bodies::upload),
        ("sends_a_body_as_the_peer_takes_it", bodies::download),
        ("takes_the_largest_and_the_smallest_settings", bodies::extreme_settings),
        ("gives_the_window_of_unread_bodies_back", bodies::unread),
        ("sends_a_large_head", heads::large_head),
        ("echoes_a_body_while_it_arrives", bodies::echo),
        ("passes_trailers_both_ways", bodies::trailers),
        ("frames_responses_without_a_body", heads::bodiless),
        ("leaves_fields_of_a_connection_out", heads::fields_of_a_connection),
        ("joins_the_crumbs_of_a_cookie", heads::cookies),
        ("refuses_heads_as_http_1_does", heads::refused_heads),
        ("resets_the_stream_of_a_malformed_request", heads::malformed),
        ("refuses_bodies_as_http_1_does", bodies::refused_bodies),
        ("resets_a_stream_whose_length_is_wrong", bodies::wrong_length),
        ("cuts_a_response_whose_length_is_wrong", bodies::wrong_response),
        ("sends_100_continue_when_the_body_is_asked_for", bodies::expectation),
        ("has_no_tunnels_and_no_upgrades", heads::upgrades),
        ("drops_the_handler_of_a_stream_that_is_reset", streams::reset_handler),
        ("drops_the_handlers_of_a_connection_that_ends", streams::lost_handler),
        ("leaves_a_handler_alone_if_its_route_says_so", streams::ignored),
        ("detaches_a_handler_if_its_route_says_so", streams::detached),
        ("drops_a_streamed_response_that_is_reset", streams::reset_response),
        ("answers_a_panic_with_500_on_its_stream_alone", streams::panics),
        ("ends_a_late_handler_on_its_stream_alone", deadlines::late_handler),
        ("ends_a_late_body_on_its_stream_alone", deadlines::late_body),
        ("does_not_count_the_wait_for_the_body_as_time_of_the_handler", deadlines::slow_body),
        ("cuts_a_response_that_the_peer_takes_byte_by_byte", deadlines::slow_reader),
        ("cuts_a_connection_whose_peer_does_not_read", deadlines::no_reader),
        ("holds_few_pieces_of_a_response_for_a_peer_that_does_not_read", bodies::crumbs),
        ("runs_tasks_after_a_response", records::after),
        ("logs_each_request", records::access_log),
        ("counts_requests_and_responses", records::statistics),
        ("counts_the_latency_of_each_route", records::histograms),
        ("logs_handlers_that_stall_their_loop", records::stalls),
        ("closes_a_connection_without_requests", closing::idle),
        ("closes_a_connection_without_a_first_request", closing::silent),
        ("closes_a_connection_of_age", closing::age),
        ("closes_a_connection_after_its_last_request", closing::last_request),
        ("refuses_requests_of_a_peer_that_is_deaf_to_goaway", closing::deaf_to_goaway),
        ("closes_a_connection_if_a_handler_says_so", closing::close),
        ("finishes_requests_during_a_stop", closing::stop),
        ("answers_the_first_request_during_a_stop", closing::stop_before_the_first),
        ("cuts_requests_at_a_forced_stop", closing::forced_stop),
        ("ends_a_connection_that_resets_requests_at_once", floods::reset_flood),
        ("ends_a_connection_that_resets_many_requests", floods::slow_reset_flood),
        ("ends_a_connection_whose_requests_run_on", floods::ignored_reset_flood),
        ("keeps_a_connection_that_resets_few_requests", floods::few_resets),
        ("does_not_keep_a_connection_alive_for_pings", floods::pings),
        ("answers_settings_and_pings", floods::settings_flood),
        ("ends_a_connection_with_an_endless_head", floods::endless_head),
        ("ends_a_connection_that_breaks_the_protocol", floods::broken),
        ("survives_garbage", floods::garbage),
        ("serves_curl", programs::curl),
        ("serves_nghttp", programs::nghttp),
        ("serves_h2load", programs::h2load),
        ("serves_grpc", grpc::python),
        ("passes_the_cases_of_httpwg", programs::httpwg),
        ("fails_a_body_with_malformed_trailers", bodies::malformed_trailers),
    ],
);

/// The tests of the backends that speak HTTP/1.1 alone.
pub(crate) const WITHOUT: Area = (
    "no_h2",
    &[
        ("a_preface_is_refused_with_505", beginning::refused_preface),
        ("http_1_1_is_negotiated_over_tls", beginning::only_http1),
        ("curl_falls_back_to_http_1_1", programs::fallback),
    ],
);
