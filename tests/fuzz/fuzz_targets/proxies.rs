//! `proxies`, for libFuzzer; what it checks is in `tests/fuzz/targets/src/proxies.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gearshift_fuzz_targets::proxies(input));
