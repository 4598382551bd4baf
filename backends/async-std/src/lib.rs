//! gearshift on async-std, whose upstream is discontinued.
