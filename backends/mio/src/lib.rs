//! gearshift on a hand-written event loop for each core.
