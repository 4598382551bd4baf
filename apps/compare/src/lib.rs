//! Which backend suits which work: loads an application on each, measures, and says what it found.

pub mod page;
pub mod results;
