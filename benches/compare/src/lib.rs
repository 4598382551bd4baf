//! Which backend suits which work: loads an application on each, measures, and says what it found.
//!
//! # What makes the load
//! A generator of our own, [`load`], and `wrk` where it is installed and fits. Programs at hand were looked at first.
//! `wrk` is the quickest, and what others quote; but it has closed loops on one path only, in whole seconds, forgets
//! what has no answer when it ends, and adds latencies by assumption. `oha` has open loops, too, but Debian does not
//! package it, what it tells of several paths is one figure for all, and it neither leaves connections alone nor puts
//! clients beside those that count. So `wrk` is used where answers come at once and processors are the limit, and the
//! figure is one that others know; everything else, and everything on a machine without it, is done by 400 lines on
//! `mio`, `httparse` and `hdrhistogram`. `--generator built-in` does without `wrk`, to see what difference that makes.
//!
//! # What is measured
//! One server process at a time, each load on a new one, pinned to other processors than the generator if there are
//! two. What the server used is read from `/proc`, [`proc`]; what its threads used that are gone counts, processes that
//! are gone do not. What other programs had of the processors meanwhile is read there, too: a trial that they disturbed
//! is made again, [`trial`]. Rounds are interleaved; figures are medians of them, with what they lie between. All that
//! is Linux's, and so is this program.

pub mod baseline;
pub mod claims;
pub mod cli;
mod columns;
pub mod comparison;
pub mod cores;
pub mod csv;
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
pub mod reading;
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
