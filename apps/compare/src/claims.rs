//! claims
use crate::failure::Failure;
use crate::results::Claim;
use crate::run::Run;
use crate::subject::Subject;
/// x
pub fn measurements(_subjects: &[Subject]) -> usize {
    0
}
/// x
pub fn check(_run: &Run<'_>) -> Result<Vec<Claim>, Failure> {
    Ok(Vec::new())
}
