//! Whole servers over loopback.

#[path = "../../reactor/tests/cases/serving.rs"]
mod serving;
#[path = "../../reactor/tests/cases/stuck.rs"]
mod stuck;

use gearshift_smol::Smol;

const BACKEND: Smol = Smol;
