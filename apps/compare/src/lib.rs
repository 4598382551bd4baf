//! Which backend suits which work: loads an application on each, measures, and says what it found.

pub mod cli;
pub mod cores;
pub mod failure;
pub mod guard;
pub mod load;
pub mod proc;
pub mod results;
pub mod serve;
