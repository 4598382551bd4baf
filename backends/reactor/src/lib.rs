//! Edge-triggered readiness for gearshift's event loops, and the transport on it.
