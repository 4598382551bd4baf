//! gearshift on smol: an executor for each core.
