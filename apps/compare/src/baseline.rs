//! Before and after.
use crate::failure::Failure;
use crate::results::{Change, Results};
use std::path::Path;
/// worse
pub const WORSE: &str = "worse";
/// x
pub fn read(_file: &Path) -> Result<Results, Failure> {
    Ok(Results::default())
}
/// x
pub fn changes(_before: &Results, _after: &Results) -> Vec<Change> {
    Vec::new()
}
