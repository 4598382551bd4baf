//! Measures an application under load on each backend and reports which backend suits which work.
//!
//! # Load generators
//! The built-in generator ([`load`]), and `wrk` where it is installed and suitable. `wrk` is the fastest generator, and
//! its figures are well known. But it only has closed loops on one path and whole seconds, ignores requests without a
//! response at the end, and corrects latencies by assumption. `oha` also has open loops. But Debian does not package
//! it, it reports one figure for all paths, and it can neither hold idle connections nor run one load beside another.
//! So `wrk` generates the loads that saturate a core. The built-in generator, 400 lines on `mio`, `httparse` and
//! `hdrhistogram`, generates the others, or all of them without `wrk`. `--generator built-in` disables `wrk`.
//!
//! # Measurement
//! One server process runs at a time, and each load gets a new one. Server and generator are pinned to different cores
//! if there are two. The server's resources come from `/proc` ([`proc`]); they include threads that have exited, but
//! not child processes that have. A trial is repeated if other programs used too much of the cores
//! ([`trial`]). Rounds are interleaved over the servers, and figures are medians with their range. This program
//! requires Linux.

pub mod baseline;
pub mod claims;
pub mod cli;
mod columns;
pub mod comparison;
pub mod cores;
pub mod csv;
pub mod explanation;
pub mod failure;
mod figure;
mod format;
pub mod guard;
pub mod load;
pub mod machine;
pub mod markdown;
pub mod measure;
pub mod page;
pub mod plan;
pub mod proc;
pub mod progress;
pub mod python;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod serve;
pub mod server;
pub mod subject;
pub mod table;
pub mod trial;
pub mod winners;
mod yardstick;
