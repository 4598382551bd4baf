//! gearshift.
pub use gearshift_core::*;
