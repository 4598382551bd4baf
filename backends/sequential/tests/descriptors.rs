//! Running out of descriptors, which befalls the whole process, so that this one has nothing else to do.

#[path = "../../blocking/tests/cases/descriptors.rs"]
mod descriptors;
#[path = "../../blocking/tests/cases/rig.rs"]
mod rig;

use gearshift_core::Config;
use gearshift_sequential::Sequential;

const BACKEND: Sequential = Sequential;

fn settings() -> Config {
    Config::default()
}
